"""What a URL of a message leads to, told only where every program takes it the same way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import urljoin

#: What a browser takes out of a URL anywhere, and from its ends (WHATWG URL, 4.4).
_INVISIBLE = str.maketrans("", "", "\t\r\n")
_ENDS = "".join(map(chr, range(0x21)))
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*+):")
_WEB = re.compile(r"(?:(?i:https?):)?[/\\]{2,}([^/\\?#]++)|(?i:https?):[/\\]?([^/\\?#]++)")
_BASE = re.compile(r"(https?:|ftp:)[/\\]*+", re.IGNORECASE)
_PATH = re.compile(r"[^?#]*+")
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_\-]*+)\.?)++")
_PORT = re.compile(r":[0-9]{0,5}\Z")


def clean_url(value: str) -> str:
    """Return a URL as a browser takes it from an attribute's decoded value."""
    return value.strip(_ENDS).translate(_INVISIBLE)


def scheme_of(url: str) -> str:
    """Return the scheme of a cleaned URL, lower-case; "" if it has none."""
    found = _SCHEME.match(url)
    return found[1].lower() if found is not None else ""


def is_web(url: str) -> bool:
    """Tell whether a cleaned URL is one of http or https, or begins with ``//``."""
    return _WEB.match(url) is not None


def web_host(url: str) -> str:
    """Return the host of a cleaned web URL, lower-case, without port.

    "" for one that is none, and for one that programs read in different ways (a user name, a
    backslash, letters beyond ASCII): such a host is never one that is allowed.
    """
    found = _WEB.match(url)
    if found is None or "\\" in url[: found.end() + 1]:
        return ""
    host = _PORT.sub("", found[1] if found[1] is not None else found[2])
    if len(host) > 255 or _HOST.fullmatch(host) is None:
        return ""
    return host.rstrip(".").lower()


def shown_host(url: str) -> str:
    """Return the host for a log line: what stands in its place, whatever it is; cut."""
    found = _WEB.match(url)
    if found is None:
        return ""
    return web_host(url) or (found[1] or found[2] or "")[:100].lower()


def absolute(url: str, base: str) -> str:
    """Return a cleaned URL against the ``href`` of ``<base>``; the URL itself if that can't be.

    As browsers do it: a backslash is a slash, and two of them or more begin a host.
    """
    if not base or scheme_of(url):
        return url
    found = _BASE.match(base)
    base = _with_slashes(base if found is None else f"{found[1]}//{base[found.end() :]}")
    try:
        return urljoin(base, _with_slashes(url))
    except ValueError:
        return url


def _with_slashes(url: str) -> str:
    path = _PATH.match(url)
    end = path.end() if path is not None else 0
    url = url[:end].replace("\\", "/") + url[end:]
    return "//" + url.lstrip("/") if url.startswith("//") else url


def every_absolute(url: str, bases: Sequence[str]) -> list[str]:
    """Return what programs may make of a cleaned URL, whichever of the bases they take."""
    scheme = scheme_of(url)
    if not scheme:
        found = [absolute(url, base) for base in bases]
    else:
        # With fewer than two slashes behind it, the scheme of the base itself says nothing.
        rest = url[len(scheme) + 1 :]
        relative = rest[:2].strip("/\\") != ""
        found = [absolute(rest, base) for base in bases if relative and scheme_of(base) == scheme]
    return [*found, url] if is_web(url) or not found else found


def worst_bases(bases: Iterable[str], unwanted: Callable[[str], bool]) -> list[str]:
    """Return the bases that tell the worst of a link: the first, and the first that is not wanted.

    bases: in the order of the text, those that only some programs see among them.
    """
    known = [base for base in map(clean_url, bases) if base]
    return known[:1] + [base for base in known[1:] if unwanted(base)][:1]


class HostList:
    """Domains with all that is below them.

    Raises ValueError for a name that is none.
    """

    def __init__(self, domains: Iterable[str]) -> None:
        self._domains = frozenset(map(domain_name, domains))

    def __contains__(self, host: str) -> bool:
        """Tell whether a host (of :func:`web_host`) is one of the domains or below one."""
        while host:
            if host in self._domains:
                return True
            host = host.partition(".")[2]
        return False


def domain_name(text: str) -> str:
    """Return the name of a domain as URLs have it: lower-case, in ASCII.  Raises ValueError."""
    try:
        name = text.strip().strip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if not name or _HOST.fullmatch(name) is None or name.endswith("."):
        raise ValueError(f'"{text}" is no name of a domain: write "example.com", without scheme and path')
    return name


#: A URL within another, as of a page in an archive: its scheme without "htt", and its host.
_INNER = re.compile(r"htt(ps?:)[/\\]{2}((?:(?!https?:)[^/?#\\])*+)", re.IGNORECASE)
_INNER_WWW = re.compile(r"(?<!\w)www\.", re.IGNORECASE)
_DOT = re.compile(r"(?<!\[)\.")


def defanged(url: str) -> str:
    """Return a web URL in a form that no program makes a link of, and a reader understands."""
    found = _WEB.match(url)
    if found is None:
        return url
    begin, end = found.span(1 if found[1] is not None else 2)
    scheme = "hxxp" if url[:5].lower() == "http:" else "hxxps"
    rest = _DOT.sub("[.]", url[begin:end]) + url[end:]
    rest = _INNER.sub(lambda inner: f"hxx{inner[1].lower()}//{_DOT.sub('[.]', inner[2])}", rest)
    if "www." in rest.lower():
        rest = _INNER_WWW.sub("www[.]", rest)
    return f"{scheme}://{rest}"


# -- in running text -----------------------------------------------------------

_CHARACTER = r"[^\s<>\"\u200b\ufeff]"
#: In angle brackets a URL may be broken into lines (RFC 3986, appendix C).
_BRACKETED = (
    r"<(?:URL:)?(?P<whole>https?:[/\\]{2}"
    rf"{_CHARACTER}{{1,2000}}+(?:\r?\n{_CHARACTER}{{1,2000}}+){{0,20}}+)>"
)
#: What programs make a link of without a scheme: a word that is a domain's name, as "www.example.org".
_WWW = (
    r"(?:www\.(?<![^\s<>(\[{\"']www\.)(?:\w[\w\-]*+\.(?=\w))++[^\W\d_][\w\-]*+(?!@)"
    rf"(?::[0-9]{{1,5}}+)?+(?:[/?#\\]{_CHARACTER}*+)?+)"
)
_URL = re.compile(rf"{_BRACKETED}|https?:[/\\]{{2}}{_CHARACTER}++", re.IGNORECASE)
_URL_WWW = re.compile(rf"{_URL.pattern}|{_WWW}", re.IGNORECASE)
#: In flowed text with DelSp a blank before a line end goes with it (RFC 3676 4.1).
_JOINT = r"(?: \r?\n)?+"
_SCHEME_DELSP = _JOINT.join(("h", "t", "t", "p", "(?:s", ")?+:", r"[/\\]", r"[/\\]", ""))
_REST_DELSP = rf"(?: \r?\n{_CHARACTER}++)*+"
_URL_DELSP = re.compile(
    rf"{_BRACKETED}|{_SCHEME_DELSP}{_CHARACTER}++{_REST_DELSP}|{_WWW}{_REST_DELSP}", re.IGNORECASE
)
#: Without one of these a text holds none; looking for them costs a tenth of an expression.
_WWW_ENDS = ("ww.", "WW.", "wW.", "Ww.")
_SCHEME_ENDS = (":/", ":\\")
_BREAK = re.compile(r" ?\r?\n")
_PAIRS = {")": "(", "]": "[", "}": "{"}
_OF_THE_SENTENCE = ".,;:!?'*"


def find_urls(text: str, start: int, end: int, delsp: bool = False) -> Iterator[tuple[int, int, str]]:
    """Give the web URLs of running text: from, to, and the URL without the breaks in it.

    One that begins with "www." gets ``http://``, as mail programs take it.
    What rather belongs to the sentence is not of the URL: a full stop at its end, a bracket
    that it does not open.  delsp: of flowed text, where a URL may go over several lines.
    """
    expression = _URL
    if delsp:
        expression = _URL_DELSP
    elif _holds(text, start, end, _WWW_ENDS):
        expression = _URL_WWW
    elif not _holds(text, start, end, _SCHEME_ENDS):
        return
    for hit in expression.finditer(text, start, end):
        begin, stop = hit.span("whole") if hit["whole"] else hit.span()
        written = hit["whole"] or _trimmed(hit[0])
        url = _BREAK.sub("", written)
        if url[:4].lower() == "www.":
            url = f"http://{url}"
        yield begin, begin + len(written) if not hit["whole"] else stop, url


def _holds(text: str, start: int, end: int, pieces: tuple[str, ...]) -> bool:
    return any(text.rfind(piece, start, end) >= 0 for piece in pieces)


def _trimmed(url: str) -> str:
    if url[-1] not in _OF_THE_SENTENCE and url[-1] not in _PAIRS:
        return url
    counts = Counter(url)
    end = len(url)
    while end:
        last = url[end - 1]
        unbalanced = last in _PAIRS and counts[last] > counts[_PAIRS[last]]
        if not unbalanced and last not in _OF_THE_SENTENCE:
            break
        counts[last] -= 1
        end -= 1
    return url[:end]

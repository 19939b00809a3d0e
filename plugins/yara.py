"""Scan messages and what is in them with YARA rules.

    [[plugins]]
    name = "yara"
    use = "yara"
    time_limit = 10.0
    options = { rules = ["/etc/mailgate/yara"], action = "tag" }

The rules are compiled when the gateway starts; a mistake in one is an error of the
configuration that names file and line.  The whole message as it came, each decoded part, and
each file within an archive are scanned.  A rule says itself what becomes of a message that it
matches::

    rule dropper {
        meta:
            mailgate_action = "reject"      // or "quarantine", "tag", "log"
        ...
    }

Wants yara-x, of the extra ``yara``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, Field

from gateway import plugin as api
from gateway.plugin import Message, SessionRecord, Verdict, shown

Action = Literal["log", "tag", "quarantine", "reject"]
_SEVERITY: tuple[str, ...] = get_args(Action)
_ENDINGS = (".yar", ".yara")
_LARGEST_RULES = 64 << 20


class Yara(api.Plugin):
    """Applies YARA rules.  The scanner holds Python's lock, so it has a process of its own."""

    isolation: ClassVar = "process"

    class Options(api.PluginOptions):
        """rules: files, and directories of *.yar and *.yara, with all below them.

        action: for rules that say none.  raw: scan the message as it came, too.  archives: scan
        what is in them, too.  largest: octets of one content.  seconds: for all scans of a
        message.  header: of "tag".  relaxed: take expressions as YARA itself does.
        """

        rules: tuple[str, ...] = Field(min_length=1)
        action: Action = "reject"
        raw: bool = True
        archives: bool = True
        largest: int = Field(default=64 << 20, ge=1024)
        seconds: int = Field(default=4, ge=1)
        header: api.FieldName = "X-Yara"
        reason: str = Field(default="Message refused, it matches {rule}", max_length=200)
        relaxed: bool = False

    options: Options

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        self._rules = _compiled(self.options.rules, self.options.relaxed)

    def inspect(self, message: Message, session: SessionRecord) -> Verdict:
        """Scan one message.  Raises TimeoutError when the scans take longer than they may."""
        import yara_x

        scanner = yara_x.Scanner(self._rules)  # of one thread: it can't be kept
        until = perf_counter() + self.options.seconds
        worst, found = "", dict[str, str]()
        for where, declared, content in self._contents(message):
            left = math.ceil(until - perf_counter())
            if left <= 0:
                raise TimeoutError(f"scans took longer than {self.options.seconds} s")
            scanner.set_timeout(left)
            scanner.set_global("filename", where.rpartition("/")[2])
            scanner.set_global("extension", api.extension_of(where.lower()))
            scanner.set_global("content_type", declared)
            for rule in _scanned(scanner, content):
                action = dict(rule.metadata).get("mailgate_action", self.options.action)
                name = f"{rule.namespace}:{rule.identifier}"
                if name not in found:
                    found[name] = action
                    message.note(f"rule{len(found)}", f"{name} ({action}): {where or 'message'}")
                if not worst or _SEVERITY.index(action) > _SEVERITY.index(found[worst]):
                    worst = name
        return self._verdict(message, worst, found)

    def _contents(self, message: Message) -> Iterator[tuple[str, str, bytes]]:
        """Give what is scanned: name, declared type, octets."""
        if self.options.raw:
            yield "", "message/rfc822", self._bounded(message.buffer[:])
        unpacker = api.Unpacker(api.UnpackLimits(seconds=self.options.seconds))
        for part in message.walk():
            if part.children:
                continue
            content = self._bounded(part.content())
            names = api.file_names(part)
            if not self.options.archives:
                yield names[0] if names else "", part.content_type, content
                continue
            for file in unpacker.files(names, content):
                if file.troubles:
                    message.note("not_unpacked", ", ".join(sorted(file.troubles)))
                yield "/".join(file.path), part.content_type if not file.depth else "", file.content

    def _bounded(self, content: bytes) -> bytes:
        if len(content) > self.options.largest:
            raise ValueError(f"{len(content)} octets to scan, more than {self.options.largest}")
        return content

    def _verdict(self, message: Message, worst: str, found: dict[str, str]) -> Verdict:
        action = found.get(worst, "log")
        if action == "reject":
            return api.Reject(self.options.reason.replace("{rule}", worst))
        if action == "quarantine":
            return api.Quarantine(worst)
        tags = [name for name, action in found.items() if action == "tag"]
        if not tags:
            return api.Pass()
        edits = message.edits()
        edits.set_header(self.options.header, ", ".join(tags[:20]))
        return api.Modify(edits)


def _scanned(scanner: Any, content: bytes) -> list[Any]:
    """Return the rules that match.  A panic of the scanner's is no Exception, and becomes one."""
    import yara_x

    try:
        return list(scanner.scan(content).matching_rules)
    except yara_x.TimeoutError:
        raise TimeoutError("the scan took longer than it may") from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - see above
        raise RuntimeError(f"the scanner failed: {type(error).__name__}") from None


# -- compiling -------------------------------------------------------------------------


def _compiled(paths: tuple[str, ...], relaxed: bool) -> Any:
    """Return the compiled rules.  Raises ValueError, with file and line of a mistake."""
    try:
        import yara_x
    except ImportError:
        raise ValueError("the plugin needs yara-x: install mailgate[yara]") from None
    compiler = yara_x.Compiler(relaxed_re_syntax=relaxed)
    for name in ("filename", "extension", "content_type"):
        compiler.define_global(name, "")
    files: dict[str, tuple[Path, str]] = {}
    for namespace, path in (one for text in paths for one in _files(Path(text))):
        if namespace in files:
            raise ValueError(f"{path} and {files[namespace][0]} would share the namespace {namespace}")
        files[namespace] = path, _source(path)
        compiler.new_namespace(namespace)
        compiler.add_include_dir(str(path.parent))
        try:
            compiler.add_source(files[namespace][1], origin=str(path))
        except yara_x.CompileError as error:
            raise ValueError(_told(error, path)) from None
    rules = compiler.build()
    for rule in rules:
        action = dict(rule.metadata).get("mailgate_action", "log")
        if action not in _SEVERITY:
            path, source = files[rule.namespace]
            place = re.search(rf"\brule\s+{re.escape(rule.identifier)}\b", source)
            line = f":{source.count(chr(10), 0, place.start()) + 1}" if place is not None else ""
            known = ", ".join(_SEVERITY)
            raise ValueError(f'{path}{line}: unknown mailgate_action "{action}"; known: {known}')
    return rules


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Give namespaces and files: below a directory the path to the file is its namespace."""
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.suffix in _ENDINGS and one.is_file())
        if not found:
            raise ValueError(f"{path} has no file *.yar or *.yara")
        for one in found:
            yield str(one.relative_to(path).with_suffix("")), one
    elif path.is_file():
        yield path.stem, path
    else:
        raise ValueError(f"no such file or directory: {path}")


def _source(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_RULES:
            raise ValueError(f"{path} is larger than {_LARGEST_RULES} octets")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read: {shown(str(error))}") from None


def _told(error: Any, path: Path) -> str:
    """Say what a mistake is, in a line: "FILE:LINE: what it is"."""
    first, _, rest = str(error).partition("\n")
    place = re.search(r"--> (.+):(\d+):\d+", rest)
    where = f"{place.group(1)}:{place.group(2)}" if place is not None else str(path)
    return f"{where}: {first.partition(': ')[2] or first}"

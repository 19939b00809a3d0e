"""What a file is by its content, whatever it is called and declared as.

The table is of what mail has to be careful with, and of what it carries mostly.  Only the
beginning and the end of a content are looked at, and a few searches at the speed of C are
made: the time is in proportion to the size at worst.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

#: How much of a text is looked at, in octets.
_HEAD = 4096
#: The end of a zip's directory stands within this of the end (PKZIP APPNOTE 4.3.16).
_ZIP_TAIL = 65_557
#: Octets of the two records that a zip64 has between its directory and its end.
_ZIP64_END = 76

#: Families of types; a rule may name one as "@program".
FAMILIES: dict[str, tuple[str, ...]] = {
    "program": (
        *("pe", "dos", "elf", "macho", "class", "dex", "jar", "apk", "wasm", "msi", "deb", "rpm"),
        *("appx", "crx", "pyc", "autoit"),
    ),
    "script": (*("shebang", "php", "encoded-script", "scriptlet", "hta", "reg", "inf"),),
    "code": ("javascript", "vbscript", "powershell", "batch"),
    "shortcut": ("lnk", "url", "settings", "library", "rdp", "iqy", "slk", "chm", "hlp"),
    "archive": (
        *("zip", "rar", "7z", "tar", "gzip", "bzip2", "xz", "zstd", "lz4", "lzip", "compress", "cab"),
        *("arj", "lha", "ace", "cpio", "ar", "xar", "alz", "egg", "tnef", "uuencode"),
    ),
    "disk": ("iso", "udf", "vhd", "vhdx", "vmdk", "vdi", "qcow", "wim", "dmg"),
    "office": (
        *("ole", "doc", "xls", "ppt", "msg", "ooxml", "docx", "xlsx", "ppt-x", "visio", "publisher"),
        *("rtf", "odf", "onenote", "activemime", "access", "hwp", "word-xml"),
    ),
    "document": ("pdf", "postscript", "epub", "djvu", "xps"),
    "web": ("html", "svg", "xml", "mhtml", "swf"),
    "image": ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ico", "psd", "heif", "jpeg2000", "wmf", "emf"),
    "media": ("mp3", "ogg", "flac", "wav", "avi", "mp4", "matroska", "midi", "asf"),
    "plain": ("text", "calendar", "vcard", "pem", "pgp", "mail"),
    "other": ("data", "empty", "font", "sqlite"),
}
FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}
TYPE_NAMES = frozenset(FAMILY_OF)

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x7fELF", "elf"),
    (0, b"\xfe\xed\xfa\xce", "macho"),
    (0, b"\xfe\xed\xfa\xcf", "macho"),
    (0, b"\xce\xfa\xed\xfe", "macho"),
    (0, b"\xcf\xfa\xed\xfe", "macho"),
    (0, b"dex\n0", "dex"),
    (0, b"\0asm", "wasm"),
    (0, b"!<arch>\ndebian", "deb"),
    (0, b"!<arch>\n", "ar"),
    (0, b"\xed\xab\xee\xdb", "rpm"),
    (0, b"Cr24", "crx"),
    (0, b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", "lnk"),
    (0, b"ITSF", "chm"),
    (0, b"?_\x03\0", "hlp"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"PK\x07\x08PK", "zip"),
    (0, b"PK00PK", "zip"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (257, b"ustar", "tar"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"LZIP", "lzip"),
    (0, b"\x1f\x9d", "compress"),
    (0, b"MSCF\0\0\0\0", "cab"),
    (0, b"ISc(", "cab"),
    (0, b"\x60\xea", "arj"),
    (2, b"-lh", "lha"),
    (2, b"-lz", "lha"),
    (7, b"**ACE**", "ace"),
    (0, b"ALZ\x01", "alz"),
    (0, b"EGGA", "egg"),
    (0, b"07070", "cpio"),
    (0, b"\xc7\x71", "cpio"),
    (0, b"xar!", "xar"),
    (0, b"\x78\x9f\x3e\x22", "tnef"),
    (0x8001, b"CD001", "iso"),
    (0x8801, b"CD001", "iso"),
    (0x9001, b"CD001", "iso"),
    (0x8001, b"BEA01", "udf"),
    (0x8001, b"NSR0", "udf"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vhd"),
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"QFI\xfb", "qcow"),
    (0, b"MSWIM\0\0\0", "wim"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (0, b"{\\rt", "rtf"),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "onenote"),
    (0, b"ActiveMime", "activemime"),
    (4, b"Standard Jet DB", "access"),
    (4, b"Standard ACE DB", "access"),
    (0, b"%!PS", "postscript"),
    (0, b"\xc5\xd0\xd3\xc6", "postscript"),
    (0, b"AT&TFORM", "djvu"),
    (0, b"FWS", "swf"),
    (0, b"CWS", "swf"),
    (0, b"ZWS", "swf"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (8, b"WEBP", "webp"),
    (0, b"\0\0\x01\0", "ico"),
    (0, b"8BPS", "psd"),
    (4, b"ftyphei", "heif"),
    (4, b"ftypmif1", "heif"),
    (4, b"ftypavif", "heif"),
    (4, b"jP  \r\n", "jpeg2000"),
    (0, b"\xd7\xcd\xc6\x9a", "wmf"),
    (40, b" EMF", "emf"),
    (0, b"ID3", "mp3"),
    (0, b"OggS", "ogg"),
    (0, b"fLaC", "flac"),
    (8, b"WAVE", "wav"),
    (8, b"AVI ", "avi"),
    (4, b"ftyp", "mp4"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"MThd", "midi"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"wOFF", "font"),
    (0, b"wOF2", "font"),
    (0, b"OTTO", "font"),
    (0, b"\0\x01\0\0\0", "font"),
    (0, b"SQLite format 3\0", "sqlite"),
    (0, b"-----BEGIN PGP", "pgp"),
    (0, b"-----BEGIN ", "pem"),
)
#: What a text begins with, blanks before it left out, in lower case.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"#!", "shebang"),
    (b"<?php", "php"),
    (b"@echo", "batch"),
    (b"#@~^", "encoded-script"),
    (b"windows registry editor", "reg"),
    (b"regedit4", "reg"),
    (b"[version]", "inf"),
    (b"[autorun]", "inf"),
    (b"[internetshortcut]", "url"),
    (b"id;p", "slk"),
    (b"web\r\n1\r\n", "iqy"),
    (b"web\n1\n", "iqy"),
    (b"begin:vcalendar", "calendar"),
    (b"begin:vcard", "vcard"),
    (b"mime-version:", "mhtml"),
)
#: What stands somewhere in the head of a text that begins with "<".
_MARKUP: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"<hta:application"), "hta"),
    (re.compile(rb"<\?xml-stylesheet[^>]{0,200}mso-application|progid=.word\.document"), "word-xml"),
    (
        re.compile(rb"<(?:job|scriptlet)[\s>]|<(?:package|component)[\s>](?=[\s\S]{0,3000}<script)"),
        "scriptlet",
    ),
    (re.compile(rb"<pcsettings"), "settings"),
    (re.compile(rb"<(?:librarydescription|searchconnectordescription)"), "library"),
    (re.compile(rb"<(?:[a-z]{1,10}:)?svg[\s>]"), "svg"),
    (
        re.compile(
            rb"<(?:!doctype\s{1,20}html|html|head|body|script|iframe|title|style|meta|table|div|form|a\s|p>|h1)"
        ),
        "html",
    ),
    (re.compile(rb"^<\?xml"), "xml"),
)
_SCRIPT_LINE: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"^[ \t]{0,80}full address:s:", re.MULTILINE), "rdp"),
    (
        re.compile(
            rb"new\s{1,9}activexobject|wscript\.(?:createobject|echo|quit)|^[ \t]{0,80}(?:var|let|const)\s"
            rb"|^[ \t]{0,80}function\s{1,9}\w{0,60}\(|eval\s?\(",
            re.MULTILINE,
        ),
        "javascript",
    ),
    (
        re.compile(
            rb"\bset\s{1,9}\w{1,60}\s{0,9}=\s{0,9}createobject"
            rb"|^[ \t]{0,80}(?:dim\s{1,9}\w{1,60}\s{0,9}(?:,|$)|on error resume next\b)"
            rb"|^[ \t]{0,80}execute\s?\(",
            re.MULTILINE,
        ),
        "vbscript",
    ),
    (
        re.compile(
            rb"\b(?:invoke-expression|invoke-webrequest|new-object|write-host|set-executionpolicy)\b"
            rb"|^[ \t]{0,80}param\s?\(",
            re.MULTILINE,
        ),
        "powershell",
    ),
    (
        re.compile(rb"^[ \t]{0,80}(?:set \w{1,60}=|rem |if exist |@?powershell |goto :)", re.MULTILINE),
        "batch",
    ),
)
_OLE_NAMES: tuple[tuple[str, str], ...] = (
    ("WordDocument", "doc"),
    ("Workbook", "xls"),
    ("Book\0", "xls"),
    ("PowerPoint Document", "ppt"),
    ("__properties_version1.0", "msg"),
    ("VisioDocument", "visio"),
    ("Quill", "publisher"),
    ("FileHeader\0", "hwp"),
)
_MSI_CLASS = bytes.fromhex("84100c0000000000c000000000000046")  # {000C1084-...}
_UUENCODED = re.compile(rb"begin(?:-base64)? {1,9}[0-7]{3,4} ")
_TEXT_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_ZIP_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"AndroidManifest.xml", "apk"),
    (b"AppxManifest.xml", "appx"),
    (b"word/", "docx"),
    (b"xl/", "xlsx"),
    (b"ppt/", "ppt-x"),
    (b"visio/", "visio"),
    (b"FixedDocSeq.fdseq", "xps"),
)


def file_types(content: bytes) -> tuple[str, ...]:
    """Return what a content is: one name of TYPE_NAMES, or several where it is several at once.

    The first is what its beginning says: "text" or "data" if that says nothing, "empty" if
    there is none.  The others are what else a program would open it as: a zip behind an
    image, a PDF behind a text.
    """
    if not content:
        return ("empty",)
    first = _by_magic(content)
    found = [_REFINED[first](content) if first in _REFINED else first] if first else []
    if not found:
        found = [name for name in (_by_text(content), _by_tail(content)) if name]
    if found[:1] != ["pdf"] and b"%PDF-" in content[:1024]:
        found.append("pdf")
    if "zip" not in (first, *found) and zip_directory(content) is not None:
        found.append(_zip_kind(content))
    if first not in ("rar", "7z") and FAMILY_OF.get(first) in _OFTEN_COVERS:
        found += [name for magic, name in _APPENDED if magic in content]
    if not found:
        found = ["data" if _TEXT_CONTROLS.search(content[:_HEAD]) else "text"]
    return tuple(dict.fromkeys(found))


_OFTEN_COVERS = ("image", "program", "document", "media")
_APPENDED = ((b"Rar!\x1a\x07", "rar"), (b"7z\xbc\xaf\x27\x1c", "7z"))


def _by_magic(content: bytes) -> str:
    if content.startswith(b"%PDF-"):
        return "pdf"
    if content.startswith(b"MZ"):
        return "pe"
    if content.startswith(b"\xca\xfe\xba\xbe"):
        return "class"
    if content.startswith(b"BM") and content[6:10] == b"\0\0\0\0":
        return "bmp"
    for offset, magic, name in _MAGIC:
        if content.startswith(magic, offset):
            return name
    return ""


def _by_tail(content: bytes) -> str:
    tail = content[-512:]
    if tail.startswith(b"conectix"):
        return "vhd"
    return "dmg" if tail.startswith(b"koly") else ""


def _by_text(content: bytes) -> str:
    head = content[:_HEAD]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head[: len(head) & ~1].decode("utf-16", "replace").encode("utf-8", "replace")
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\0").lower()
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if _UUENCODED.match(head) or head.startswith(b"=ybegin "):
        return "uuencode"
    if _TEXT_CONTROLS.search(head):
        return ""
    if head.startswith(b"<"):
        return next((name for pattern, name in _MARKUP if pattern.search(head)), "")
    return next((name for pattern, name in _SCRIPT_LINE if pattern.search(head)), "")


# -- types that share a magic ----------------------------------------------------


def _pe_kind(content: bytes) -> str:
    """Return "pe" for a Windows program, "dos" for what only a DOS would run."""
    if len(content) >= 64:
        (offset,) = struct.unpack_from("<I", content, 60)
        if content.startswith((b"PE\0\0", b"NE", b"LE", b"LX"), offset):
            return "pe"
    return "dos"


def _class_kind(content: bytes) -> str:
    """Tell a Java class from a fat Mach-O: that has few architectures where Java has its version."""
    return "macho" if content[4:7] == b"\0\0\0" and content[7:8] < b"\x14" else "class"


def _ole_kind(content: bytes) -> str:
    """Tell by the names in its directory, where each stands in one piece ([MS-CFB] 2.6.1)."""
    if _MSI_CLASS in content:
        return "msi"
    return next((kind for name, kind in _OLE_NAMES if name.encode("utf-16-le") in content), "ole")


def _zip_kind(content: bytes) -> str:
    if content.startswith(b"PK") and content[30:38] == b"mimetype":
        declared = content[38:100]
        if declared.startswith(b"application/epub"):
            return "epub"
        if declared.startswith(b"application/vnd.oasis.opendocument"):
            return "odf"
    place = zip_directory(content)
    names = content[place[0] : place[0] + min(place[1], 1 << 20)] if place is not None else content[:_HEAD]
    packed = b"[Content_Types].xml" in names
    for sign, kind in _ZIP_KINDS:
        if sign in names and (packed or kind == "apk"):
            return kind
    if b"META-INF/MANIFEST.MF" in names:
        return "jar"
    return "ooxml" if packed else "zip"


def zip_directory(content: bytes) -> tuple[int, int] | None:
    """Return where the directory of a zip stands and its size, whatever is before it; or None."""
    floor = max(0, len(content) - _ZIP_TAIL)
    end = content.rfind(b"PK\x05\x06", floor)
    while end >= 0:
        if len(content) - end >= 22:
            size, offset = struct.unpack_from("<II", content, end + 12)
            if size == 0 and content[end + 8 : end + 12] == bytes(4):
                return end, 0
            place = end - size
            if size == 0xFFFFFFFF or offset == 0xFFFFFFFF:
                place = content.find(b"PK\x01\x02", floor)
                size = end - place
            for start in (place, place - _ZIP64_END):
                if start >= 0 and content.startswith(b"PK\x01\x02", start):
                    return start, size
        end = content.rfind(b"PK\x05\x06", floor, end)
    return None


_REFINED: dict[str, Callable[[bytes], str]] = {
    "pe": _pe_kind,
    "class": _class_kind,
    "ole": _ole_kind,
    "zip": _zip_kind,
}

# -- what a name promises ----------------------------------------------------------

#: Which families a file may be of that has one of these extensions.
_PROMISED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("jpg jpeg jpe png gif bmp tif tiff webp ico heic heif wmf emf", ("image",)),
    ("pdf", ("document",)),
    ("doc docx docm dot dotx xls xlsx xlsm xlsb ppt pptx pptm rtf odt ods odp", ("office", "web", "plain")),
    ("txt csv log md", ("plain",)),
    ("html htm xhtml xml svg", ("web", "plain")),
    ("zip rar 7z tar gz tgz bz2 xz cab", ("archive",)),
    ("mp3 ogg flac wav avi mp4 mov mkv", ("media",)),
)
_BY_EXTENSION = {extension: families for names, families in _PROMISED for extension in names.split()}
#: Types that are recognised by a word in a text are no proof against a name.
_GUESSED = frozenset({*FAMILIES["code"], "slk", "data", "empty", "xml", "text"})


def contradicts(extension: str, types: tuple[str, ...]) -> bool:
    """Tell whether a file's extension (lower-case, no dot) promises another family than it is of.

    Where either says too little the answer is no.
    """
    promised = _BY_EXTENSION.get(extension)
    if promised is None or types[0] in _GUESSED:
        return False
    return FAMILY_OF[types[0]] not in promised

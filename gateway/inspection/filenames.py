"""What a file is called, by any program that may open it, and how names deceive."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum

from .filetypes import FAMILY_OF, file_types
from .parameters import every_value
from .parts import Part

#: No more of a name is looked at than this at its beginning and at its end.
_LONGEST = 512
#: What the text of a message may be; anything else in one is a file.
_BODY_FAMILIES = ("plain", "web", "code")

_RISKY = """
    ade adp app appinstaller application appref-ms appx appxbundle asp aspx bas bat chm cmd com cpl csh
    ctl diagcab dll elf exe fxp gadget grp hlp hta htc img inf ins iso isp its jar jnlp js jse ksh lib
    library-ms lnk mad maf mag mam mar mas mau mav maw mda mde mdt mdw mdz mht mhtml msc msh msh1 msh2
    mshxml msi msix msixbundle msp mst ocx ops osd pcd pif pl plg prf prg ps1 ps1xml ps2 psc1 psc2 psd1
    psm1 py pyc pyo pyw pyz rdp reg run scf scr sct search-ms searchconnector-ms settingcontent-ms sh shb
    shs slk sys theme url vb vbe vbp vbs vhd vhdx vsmacros vsw webpnp website wsb wsc wsf wsh xbap xll xnk
    xpi
"""
_HARMLESS = """
    avi bmp csv doc docx gif gz htm html jpeg jpg mov mp3 mp4 odp ods odt pdf png ppt pptx rar rtf tar
    tif tiff txt webp xls xlsx xml zip
"""
#: Extensions that a desktop runs, mounts or follows when its user opens the file.
RISKY_EXTENSIONS = frozenset(_RISKY.split())
_HARMLESS_EXTENSIONS = frozenset(_HARMLESS.split())
#: Where a name stands, and under which parameters.
_FIELDS = {"content-disposition": ("filename", "name"), "content-type": ("name", "filename")}
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202f\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\ufff9-\ufffb]"
)
_BLANKS = re.compile(r"\s{5,}|_{20,}|\.{5,}")


class NameTrick(StrEnum):
    """A way in which a name hides what the file is."""

    BIDI = "bidi"  # characters that turn the reading direction: "gnp.exe" read as "exe.png"
    UNSEEN = "unseen"  # controls, NULs and characters of no width
    TRAILING = "trailing"  # dots and blanks at the end, which Windows drops
    BLANKS = "blanks"  # a run of them, which pushes the extension out of sight
    DOUBLE_EXTENSION = "double_extension"  # "invoice.pdf.exe"
    STREAM = "stream"  # "a.exe::$DATA", an NTFS stream


def file_names(part: Part) -> tuple[str, ...]:
    """Return every name that a program may take for a part's file, decoded; () if there is none.

    From ``filename`` of Content-Disposition and ``name`` of Content-Type, whatever the order, in
    every reading of repeated, continued and encoded ones.
    """
    found: list[str] = []
    for field, parameters in _FIELDS.items():
        for one in part.get_all(field):
            raw = one.raw_value
            lower = raw.lower()
            there = {"filename": b"filename" in lower, "name": b"name" in lower.replace(b"filename", b"")}
            for parameter in parameters:
                if there[parameter]:
                    found += every_value(raw, parameter)
    return tuple(dict.fromkeys(_bounded(name) for name in found))


def is_body(part: Part, content: bytes) -> bool:
    """Tell whether every program takes a leaf for text of the message, and it is text of some kind.

    By no name, and by no disposition: of several some programs take the last.
    """
    if part.content_type not in ("text/plain", "text/html"):
        return False
    for one in part.fields:
        if one.name in _FIELDS:
            lower = one.raw_value.lower()
            if one.name == "content-disposition" and b"attachment" in lower:
                return False
            if b"name" in lower and file_names(part):
                return False
    return FAMILY_OF[file_types(content)[0]] in _BODY_FAMILIES


def _bounded(name: str) -> str:
    return name if len(name) <= 2 * _LONGEST else name[:_LONGEST] + name[-_LONGEST:]


def saved_names(name: str) -> tuple[str, ...]:
    """Return what a file of that name is called once it is saved, in lower case.

    Without directories, unseen characters, trailing dots and blanks, and streams; look-alikes
    of ASCII as ASCII.  Where there is a NUL, what stands before it too.
    """
    found = []
    name = _bounded(name)
    for one in dict.fromkeys((name, name.partition("\0")[0])):
        plain = unicodedata.normalize("NFKC", _UNSEEN.sub("", one)).casefold()
        plain = re.split(r"[/\\]", plain)[-1]
        if plain[1:2] == ":":
            plain = plain[2:]
        found.append(plain.rstrip(". \t\"'"))
        if ":" in plain:
            found.append(plain.partition(":")[0].rstrip(". \t\"'"))
    return tuple(one for one in dict.fromkeys(found) if one)


def extension_of(saved: str) -> str:
    """Return the last extension of a saved name, without its dot; "" if it has none."""
    return saved.rpartition(".")[2].strip() if "." in saved else ""


def name_tricks(name: str) -> frozenset[NameTrick]:
    """Return the tricks that a name, as it came, plays."""
    found = set()
    name = _bounded(name)
    if _BIDI.search(name):
        found.add(NameTrick.BIDI)
    if _UNSEEN.search(_BIDI.sub("", name)):
        found.add(NameTrick.UNSEEN)
    if name.endswith((".", " ")):
        found.add(NameTrick.TRAILING)
    if _BLANKS.search(name):
        found.add(NameTrick.BLANKS)
    if "::" in name or name.lower().endswith(":$data"):
        found.add(NameTrick.STREAM)
    for saved in saved_names(name):
        stem, _, last = saved.rpartition(".")
        if last.strip() in RISKY_EXTENSIONS and extension_of(stem.rstrip()) in _HARMLESS_EXTENSIONS:
            found.add(NameTrick.DOUBLE_EXTENSION)
    return frozenset(found)

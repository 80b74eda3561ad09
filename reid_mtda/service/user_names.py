"""Names of people in tokens, reviews and the audit: which are taken, and which two may be one person's.

Two decisions are four eyes only where two people made them. So names that look or sound alike count as one: upper and
lower case, accents, blanks, dots and dashes, other forms of the same letters (Unicode's compatibility forms), and
letters of other alphabets that look like Latin ones.
"""

from __future__ import annotations

import unicodedata

RESERVED = ("service", "command line")
"""Who stands in the audit for what nobody signed in did."""

_LONGEST = 64
_MARKS = "’"
# Japanese and Korean names are written in several scripts at once.
_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK", "IDEOGRAPHIC": "CJK", "KATAKANA-HIRAGANA": "CJK"}
_INVISIBLE = ("FILLER", "JOINER", "VARIATION SELECTOR", "INVISIBLE")
_PLAIN_LATIN = (range(0x0000, 0x0180), range(0x0218, 0x021C), range(0x1E00, 0x1F00))
# Small letters (after casefold, without accents) that are taken for a Latin one, by the Latin one.
_ALIKE = {
    "a": "аαɑ", "b": "вβьъ", "c": "сϲ", "d": "ԁđð", "e": "еεєё", "f": "ғϝ", "g": "ԍ", "h": "нһћħη", "i": "іıιїɩ",
    "j": "јϳ", "k": "кκқӄĸ", "l": "1|ӏłⅼ", "m": "мμ", "n": "пиήռ", "o": "0оοøσօө", "p": "рρ", "q": "ԛգ", "r": "гґ",
    "s": "ѕş$", "t": "тτŧ", "u": "υцմ", "v": "νѵ", "w": "ԝωшщ", "x": "хχжҳ", "y": "уγүұ", "z": "ζз",
}  # fmt: skip
_LATIN = {ord(other): latin for latin, others in _ALIKE.items() for other in others}


def check_user_name(text: str) -> str:
    """The name as it is kept: compatibility forms resolved (NFKC), blanks at its ends removed and others single.

    >>> check_user_name("  Ann   Müller ")
    'Ann Müller'

    Raises:
        ValueError: empty or overlong, a character that is none of a name, letters of several alphabets, or one of
            ``RESERVED``; what is wrong, for a message.
    """
    expected = f"expected 1 to {_LONGEST} letters and digits of one alphabet, and marks of a plain keyboard"
    if len(text) > 4 * _LONGEST or not text.isprintable():
        raise ValueError(f"got {text[:80]!r}, expected 1 to {_LONGEST} printable characters")
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if not 1 <= len(name) <= _LONGEST:
        raise ValueError(f"got {name[:80]!r}, expected 1 to {_LONGEST} printable characters")
    scripts = set()
    for letter in name:
        if letter in _MARKS or (letter.isascii() and not letter.isalnum()):
            continue
        kind, called = unicodedata.category(letter), unicodedata.name(letter, "")
        if (kind[0] not in "LM" and kind != "Nd") or any(word in called for word in _INVISIBLE):
            raise ValueError(f"got {name!r} with {letter!r} ({called or hex(ord(letter))}), {expected}")
        if kind == "Nd" and not letter.isascii():
            raise ValueError(f"got {name!r} with the digit {letter!r}, expected digits 0 to 9")
        if kind[0] == "L":
            script = called.split()[0] if called else "?"
            if script == "LATIN" and not any(ord(letter) in plain for plain in _PLAIN_LATIN):
                raise ValueError(f"got {name!r} with {letter!r} ({called}), which is taken for another letter")
            scripts.add(_TOGETHER.get(script, script))
    if len(scripts) > 1:
        raise ValueError(f"got {name!r} with letters of {' and '.join(sorted(scripts)).lower()}, {expected}")
    if not any(letter.isalnum() for letter in name):
        raise ValueError(f"got {name!r}, {expected}")
    if person_key(name) in {person_key(one) for one in RESERVED}:
        raise ValueError(f"got {name!r}, which stands for what nobody signed in did; choose another name")
    return name


def person_key(name: str) -> str:
    """What all spellings of a name have in common; two names of one key count as one person's.

    >>> person_key("Ann.") == person_key("ánn") == person_key("A n n") == person_key("аnn")
    True
    >>> person_key("ann") == person_key("anna")
    False
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    apart = unicodedata.normalize("NFD", folded)
    # Accents of alphabets that have capitals; the vowel signs of others are letters of the name.
    plain = "".join(letter for letter in apart if not unicodedata.combining(letter))
    alike = plain.translate(_LATIN)
    return "".join(letter for letter in alike if unicodedata.category(letter)[0] in "LMN") or folded.strip()

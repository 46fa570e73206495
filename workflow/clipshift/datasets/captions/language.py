"""Which captions count as English, and which hold a banned word. Cheap, stated rules.

Short captions leave every rule unsure, so the rule is the configuration's choice (`English`).
"""

import re
from collections.abc import Callable
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.captions import English

Judge = Callable[[str], bool]
_WORD = re.compile(r"[^\W\d_]+")


def letters_share(text: str) -> float:
    """Share of the letters that are a to z; 0 for a text without letters.

    >>> letters_share("Haus am See"), letters_share("Mädchen") < 1, letters_share("2014")
    (1.0, True, 0.0)
    """
    letters = [c for c in text if c.isalpha()]
    return sum(c.isascii() for c in letters) / len(letters) if letters else 0.0


def words_share(text: str, known: frozenset[str]) -> float:
    """Share of the words that are known, case-blind; 0 for a text without words."""
    words = _WORD.findall(text.casefold())
    return sum(w in known for w in words) / len(words) if words else 0.0


def judge(rule: English) -> Judge:
    """Whether a caption is English by a rule.

    Raises:
        ClipshiftError: the library is not installed, or the word list cannot be read.
    """
    if rule.by == "letters":
        return lambda text: letters_share(text) >= rule.least
    if rule.words is not None:
        known = frozenset(word.casefold() for word in _lines(Path(rule.words), "words"))
        return lambda text: words_share(text, known) >= rule.least
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise ClipshiftError(
            "`language: {by: py3langid}` needs py3langid: pip install py3langid, or take another "
            "rule (letters, words)"
        ) from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def is_english(text: str) -> bool:
        language, probability = identifier.classify(text)
        return bool(language == "en" and probability >= rule.least)

    return is_english


def banned(path: Path) -> re.Pattern[str]:
    """A pattern of the banned words and phrases of a file, one a line, whole words, any case."""
    words = sorted(_lines(path, "banned"), key=lambda w: (-len(w), w))
    if not words:
        raise ClipshiftError(f"{path} (banned) holds no word")
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE)


def _lines(path: Path, key: str) -> set[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ClipshiftError(f"{path} ({key}): {error.strerror}") from None
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}

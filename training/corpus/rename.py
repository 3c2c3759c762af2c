"""Other names for the locals of a function's template, so that what it does has to be read and not remembered.

Knows which names in a template are locals. Knows nothing of the words that fill its slots.
"""

import random
import re
from dataclasses import replace

from training.corpus.shapes import Mark, Shape
from training.corpus.vocabulary import Words

_SYNONYMS = (
    ("result", "found", "out", "answer", "output", "collected", "done"),
    ("total", "amount", "sums", "whole", "acc", "tally", "summed"),
    ("values", "numbers", "data", "series", "entries", "given"),
    ("value", "number", "entry", "x", "one", "v"),
    ("words", "names", "terms", "tokens", "strings"),
    ("word", "term", "token", "w", "string"),
    ("text", "source", "content", "raw", "body", "s"),
    ("limit", "bound", "cap", "threshold", "ceiling"),
    ("first", "one", "mine", "a1", "head"),
    ("second", "two", "theirs", "a2", "tail"),
    ("table", "mapping", "lookup", "known", "by_name"),
    ("index", "i", "at", "place", "pos"),
    ("parts", "pieces", "chunks", "fields", "cells"),
    ("part", "piece", "chunk", "field", "cell"),
    ("count", "n", "counted", "hits", "times"),
    ("best", "winner", "top", "chosen", "leader"),
    ("seen", "known", "visited", "past", "used"),
    ("left", "remaining", "rest", "lhs", "ours"),
    ("key", "k", "label", "slot", "id_"),
    ("groups", "buckets", "sorted_out", "sections"),
    ("kept", "remaining", "survivors", "good"),
    ("number", "num", "figure", "n1", "quantity_"),
)


def renamed(rng: random.Random, shape: Shape, words: Words) -> Shape:
    """A function's shape with other names for some of its locals; a class stays as it is."""
    if shape.script is None or shape.script.calls:
        return shape
    texts = [[part] if isinstance(part, str) else [part.right, *part.wrongs] for part in shape.parts]
    flat = rename_locals(rng, "\0".join(text for group in texts for text in group), words.nouns).split("\0")
    parts: list[str | Mark] = []
    for part, group in zip(shape.parts, texts, strict=True):
        mine, flat = flat[: len(group)], flat[len(group) :]
        parts.append(mine[0] if isinstance(part, str) else replace(part, right=mine[0], wrongs=tuple(mine[1:])))
    return replace(shape, parts=tuple(parts))


def rename_locals(rng: random.Random, text: str, nouns: tuple[str, ...]) -> str:
    """A template's code with other names for some of its locals; slots, attributes, keys and keywords stay."""
    taken = set(re.findall(r"\w+", text))
    for names in _SYNONYMS:
        old = names[0]
        if old not in taken or rng.random() < 0.35:
            continue
        new = rng.choice(names[1:]) if rng.random() < 0.7 else rng.choice(nouns)
        if new in taken or re.search(rf"[\"'][^\"'\n]*(?<![.@!\w]){old}\b[^\"'\n]*[\"']", text):
            continue  # it also stands in a text, or so it seems
        text = re.sub(rf"(?<![.\"'@!\w]){old}(?![\w\"']|=[^=])", new, text)
        text = re.sub(rf"(?m)^( *def .*[(, ]){old}=", rf"\g<1>{new}=", text)
        taken.add(new)
    return text

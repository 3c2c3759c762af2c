"""Pocket's tokenizer: byte-level BPE whose pieces make copying easy.

A name has the same tokens wherever it stands: after `12|`, after a line break, after a space, in backticks. So spaces
belong to common words of prose, to operators and to indentation, never to names. Digits are one token each.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from steergraph.configs import load_config
from steergraph.configs.prompts import fill_system
from training.corpus import issues, speech
from training.corpus.samples import draw_sample
from training.corpus.shapes import Mark, shapes
from training.corpus.vocabulary import TRAIN

END = "<|im_end|>"
START = "<|im_start|>"
PAD = "<|endoftext|>"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

_COMMON = """
able about above actually add after again against all also although always an and another any anything are around as
at be because been before behaves behind being below better between both break breaks broken but by bug called calling
calls can cannot case cases cause change changed check code comes could crash crashes did different do does done due
each either else empty enough error errors especially even ever every everything exactly example exception expect
expected expects fail failed fails few file files fine fix following for found from function functions get gets give
gives given go goes got had happen happens has have having here how however if in instead into is issue it its itself
just keep know last later less like line lines list little longer look looks made make makes many may maybe me mean
means method might missing module more most must my need needs never new no none nor not nothing now number of off
often on once one only or other otherwise our out output over own passes please problem properly raise raised raises
rather really report reported reports result results return returned returns right run running same say says see seem
seems seen set several shall should show shows since single so some something sometimes still string such sure take
taken takes test tests text than that the their them then there therefore these they thing things think this those
though three through time times to together too tried try trying twice two under unexpected until up update us use
used user users uses using usually valid value values version very want was way we well went were what when where
whether which while who whole why will with within without work working works would wrong yet you your zero
""".split()  # noqa: SIM905


@cache
def _prose_words() -> tuple[str, ...]:
    """Words that carry their leading space: those of the prompts and phrasings that no function uses as a name."""
    texts = [fill_system(entry["system"]) for entry in load_config("specialists")["specialists"]]
    for module in (issues, speech):
        texts.append(Path(str(module.__file__)).read_text(encoding="utf-8"))
    code = ""
    for shape in shapes():
        texts.append(shape.doc)
        for part in shape.parts:
            if isinstance(part, Mark):
                texts.extend(part.symptoms)
                code += " ".join((part.right, *part.wrongs))
            else:
                code += part
    keywords = {"return", "for", "in", "if", "not", "and", "or", "is", "else", "from", "import", "as", "def", "class"}
    names = set(re.findall(r"[a-z]+", re.sub(r'"[^"{}]*"', "", code))) - keywords
    words = set(_COMMON) | keywords | set(re.findall(r"(?<= )[a-z]{2,}(?=[ .,:])", "\n".join(texts)))
    return tuple(sorted(words - names, key=lambda word: (-len(word), word)))


def _pattern() -> str:
    return "|".join(
        (
            r"(?<=\d)\|",
            rf" (?:{'|'.join(_prose_words())})(?![A-Za-z_0-9])",
            r"\n",
            r" {2,}",
            r"\d",
            r"_*[A-Z]+(?![a-z])",
            r"_*[A-ZÀ-Þ]?[a-zß-ÿ]+",
            r"_+",
            r" ?[^\s\w]+ ?",
            r"\s",
            r".",
        )
    )


def _texts(seed: int, samples: int) -> Iterable[str]:
    for index in range(samples):
        sample = draw_sample(seed, index)
        for message in sample.messages[-1:]:
            yield message["content"]
        yield sample.answer
    for entry in load_config("specialists")["specialists"]:
        for _ in range(60):
            yield fill_system(entry["system"])
    for _ in range(20):
        yield " ".join(["", *_prose_words()])
        yield " ".join([*TRAIN.nouns, *TRAIN.attributes, *TRAIN.flags, *TRAIN.texts, *TRAIN.modifiers])
    for _ in range(500):
        yield "user assistant system"


def train_tokenizer(
    seed: int, vocab_size: int = 2560, samples: int = 6000, window: int = 1280
) -> PreTrainedTokenizerFast:
    """A tokenizer trained on the corpus of `seed`; the same seed gives the same one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_pattern()), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, samples), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        clean_up_tokenization_spaces=False,
        model_max_length=window,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast

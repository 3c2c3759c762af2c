"""The tokenizer that a GGUF file describes, built of its own fields.

Knows byte-level BPE and which rules each kind of it splits text by; SentencePiece and others are left to transformers'
conversion. Knows nothing of weights. transformers' own conversion of BPE takes long, forgets the normalizer and the
tokens that end a turn.
"""

import logging
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from steergraph.base.errors import InputError, one_line
from steergraph.engine.loading.gguf.reader import GGUFFile
from steergraph.engine.loading.quiet import quiet

log = logging.getLogger(__name__)

# Types of tokens, as GGUF numbers them.
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
END_FIELDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""End of text, of a turn, of a message to a tool: after each of them nothing of the answer follows."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = _WORDS + r"|\p{N}" + _REST
LLAMA3 = _WORDS + r"|\p{N}{1,3}" + _REST


def _split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt2() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


SPLITTING: dict[str, Callable[[], Any]] = {
    "gpt-2": _gpt2,
    "default": _gpt2,
    "smollm": _digits,
    "starcoder": _digits,
    "refact": _digits,
    "qwen2": lambda: _split(QWEN2),
    "llama-bpe": lambda: _split(LLAMA3),
    "llama3": lambda: _split(LLAMA3),
    "llama-v3": lambda: _split(LLAMA3),
}
"""How text is split into words before pairs are merged, by `tokenizer.ggml.pre`."""
LLAMA3_NAMES = ("llama-bpe", "llama3", "llama-v3")


def tokenizer_of(file: GGUFFile, label: str) -> Any:
    """transformers' tokenizer for the model in `file`. Raises InputError."""
    tokens = file.of_tokenizer("tokens")
    kind = file.of_tokenizer("model")
    if not isinstance(kind, str) or not tokens:
        raise InputError(f"{label}: no tokenizer in this file; get one that was converted with its vocabulary")
    made = _byte_level(file, label) if kind == "gpt2" else _converted(file, label, kind)
    template = file.values.get("tokenizer.chat_template")
    made.chat_template = template if isinstance(template, str) and template.strip() else None
    return made


def end_ids(file: GGUFFile) -> list[int]:
    """The tokens that end an answer, by what the file says."""
    ids = [file.of_tokenizer(field) for field in END_FIELDS]
    return sorted({number for number in ids if isinstance(number, int)})


def _byte_level(file: GGUFFile, label: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = file.of_tokenizer("tokens")
    rule = file.of_tokenizer("pre", "default")
    if rule not in SPLITTING:
        raise InputError(
            f"{label}: its tokenizer splits text by the rule {str(rule)[:40]!r}, which is not known here "
            f"(known: {', '.join(SPLITTING)}); use the model's safetensors edition"
        )
    if rule == "default":
        log.warning("%s: its file does not say how text is split into words; split as GPT-2 does", label)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in file.of_tokenizer("merges") or ()]
    if len(vocabulary) != len(tokens) or any(len(merge) != 2 for merge in merges):
        raise InputError(f"{label}: its vocabulary has a token twice, or a merge that is no pair; get the file again")
    try:
        bpe = models.BPE(vocabulary, merges, fuse_unk=False, byte_fallback=False, ignore_merges=rule in LLAMA3_NAMES)
    except Exception as error:  # a merge of tokens that the vocabulary lacks
        raise InputError(f"{label}: its tokenizer is damaged ({one_line(str(error), 120)})") from error
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.NFC() if rule == "qwen2" else None
    tokenizer.pre_tokenizer = SPLITTING[rule]()
    tokenizer.decoder = decoders.ByteLevel()
    types = file.of_tokenizer("token_type") or ()
    for index, type_ in enumerate(types[: len(tokens)]):
        if type_ in (UNKNOWN, CONTROL, USER_DEFINED):
            special = type_ != USER_DEFINED
            tokenizer.add_tokens([AddedToken(tokens[index], special=special, normalized=False)])
    named = {
        f"{name}_token": tokens[index]
        for name, field in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if isinstance(index := file.of_tokenizer(f"{field}_token_id"), int) and index < len(tokens)
    }
    if file.of_tokenizer("add_bos_token", rule in LLAMA3_NAMES) and "bos_token" in named:
        bos = named["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocabulary[bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=file.of_model("context_length"),
        clean_up_tokenization_spaces=False,
        **named,
    )


def _converted(file: GGUFFile, label: str, kind: str) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            made = AutoTokenizer.from_pretrained(file.path.parent, gguf_file=file.path.name, local_files_only=True)
    except Exception as error:  # whatever the conversion meets in fields that it does not expect
        raise InputError(
            f"{label}: its tokenizer ({kind[:40]!r}) can't be converted ({one_line(str(error), 120)}); "
            "use the model's safetensors edition"
        ) from error
    if kind == "llama":  # transformers' conversion forgets one of the spaces that a text begins with
        prefix = [normalizers.Prepend("▁")] if file.of_tokenizer("add_space_prefix", True) else []
        made.backend_tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
        made.backend_tokenizer.pre_tokenizer = None
    made.model_max_length = file.of_model("context_length")
    return made

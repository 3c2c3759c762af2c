"""What a model makes of what it reads: the residual behind every block. The words for where, which need no torch."""

from typing import Literal, get_args

ReadPosition = Literal["last_prompt_token", "prompt_mean", "answer_mean", "marker"]
"""`last_prompt_token`: the token that produces the first word of an answer. `prompt_mean`: the mean over the prompt
without its first token. `answer_mean`: the mean over an answer to a question. `marker`: the last token of the last
place where a marker stands in the prompt."""
READ_POSITIONS: tuple[ReadPosition, ...] = get_args(ReadPosition)

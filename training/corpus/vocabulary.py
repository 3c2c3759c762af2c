"""The words pocket's corpus is made of, and how names are drawn from them.

Knows word lists and the split between words for training and words held out for evaluation. Knows nothing of code.
"""

import random
from dataclasses import dataclass, field

_NOUNS = """
account address agent album alert animal answer apartment app archive area article artist asset author badge bag bank
basket batch battery bed bill bird block board boat body bonus book booking boss bottle box branch bread brick bridge
bucket budget bug building bus button buyer cabin cable cake camera camp card cargo case cell chair channel chapter
chart chat check city claim clause client clinic clock cloud club coach coin color column comment company contact
contest cook copy counter country coupon course crate crew crop customer deal deck delivery deposit desk device dish
doctor document dog door draft dress driver editor element email employee engine entry error event exam expense farm
feature fee field figure file filter flag fleet flight floor flower folder font forecast form frame friend fruit game
garden gate gift goal grade graph grid group guest hall handle header holiday horse hotel house image invoice job
journal judge key kitchen label lake lamp lane layer leader league leaf lease lesson letter library license light link
list loan lobby locker log lot machine mail manager map market match meal measure meeting member memo menu message
meter mission model module month mountain movie museum nest network node note notice nurse offer office option order
owner package page paint panel paper parcel park part party passenger patient payment peer permit person phone photo
piece pipe pixel place plan plane planet plant plate player playlist pocket poem point policy pool port post power
price printer prize probe product profile project quest query queue quiz race rack rating reader reading receipt
recipe record refund region rent repair reply report request reservation resource result review reward ride ring river
road robot role roof room round route row rule runner sale sample scale scan scene schedule school score screen script
seat section seller sensor series server session shape share shelf shift ship shirt shop signal site sketch skill slot
snack socket song source speaker sprint stage stall station step stone stop store storm story stream street student
subject survey table tag tank target task tax taxi team tenant term test thread ticket tile timer token tool topic
tour tower track trade trail train transfer tree trip truck tutor unit update upload user vehicle vendor venue video
view village visit visitor voice vote voucher wallet ward watch wave weather week wheel window winner wire word worker
zone
""".split()  # noqa: SIM905

_ATTRIBUTES = """
age amount area average balance base capacity charge cost count credit debit delay depth discount distance duration
effort factor floor fuel gain height hours humidity index interest length level limit load loss margin mass minutes
number offset pages percent points position pressure price priority profit quantity quota range rank rate ratio rating
reach salary score seats seconds share size speed stake stock strength sum temperature total usage value version
volume votes wage weight width
""".split()  # noqa: SIM905

_FLAGS = """
active archived available blocked cancelled closed complete confirmed deleted done empty enabled expired failed
featured finished frozen hidden locked muted open overdue paid passed pending pinned private public published ready
resolved selected sent shipped signed sold spoiled urgent valid verified visible
""".split()  # noqa: SIM905

_TEXTS = """
alias brand category caption city code color comment country currency description email grade group kind label
language location mode name nickname owner path phone reference region role section sku slug state status street
subject symbol tag team title topic type unit username zone
""".split()  # noqa: SIM905

_MODIFIERS = """
all base best big cached clean current daily default extra final first full global hourly initial last late local long
main max merged min monthly net new next nightly old outer past peak plain prior quick raw recent safe short simple
small sorted split spare target top unique upper weekly yearly
""".split()  # noqa: SIM905

_VERBS = """
build calc check collect combine compute count create derive estimate evaluate extract fetch find gather get list load
lookup make measure pick prepare process read resolve scan select show summarize take
""".split()  # noqa: SIM905

_SYLLABLES = """
ba be bo bri ca ce co cu da de di do du fa fe fi flo ga ge go gra ha he hi jo ka ke ko la le li lo lu ma me mi mo mu
na ne ni no nu o pa pe pi plo qua ra re ri ro sa se si so sta su ta te ti to tra tu u va ve vi vo wa we xa ya zo zu
""".split()  # noqa: SIM905
_ENDINGS = ["n", "r", "l", "s", "t", "m", "x", "nd", "rk", "st", "ck", "lt"]


def _split(words: list[str], every: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    unique = sorted(set(words))
    held = tuple(word for i, word in enumerate(unique) if i % every == every - 1)
    return tuple(word for word in unique if word not in held), held


@dataclass(frozen=True)
class Words:
    """The words one side of the split may use. No held-out list has a word of any training list."""

    nouns: tuple[str, ...]
    attributes: tuple[str, ...]
    flags: tuple[str, ...]
    texts: tuple[str, ...]
    modifiers: tuple[str, ...]
    verbs: tuple[str, ...]
    invented: float = field(default=0.25)
    """The share of names made of random syllables, which no list can teach: they have to be copied."""
    held_out: bool = False

    def noun(self, rng: random.Random) -> str:
        if rng.random() < self.invented:
            return invented_word(rng, self.held_out)
        return rng.choice(self.nouns)


_NOUN_SPLIT = _split(_NOUNS, 7)
_ATTRIBUTE_SPLIT = _split(_ATTRIBUTES, 7)
_FLAG_SPLIT = _split(_FLAGS, 7)
_TEXT_SPLIT = _split(_TEXTS, 7)
_MODIFIER_SPLIT = _split(_MODIFIERS, 7)
_VERB_SPLIT = _split(_VERBS, 7)

TRAIN = Words(_NOUN_SPLIT[0], _ATTRIBUTE_SPLIT[0], _FLAG_SPLIT[0], _TEXT_SPLIT[0], _MODIFIER_SPLIT[0], _VERB_SPLIT[0])
_TRAINED = {
    word
    for words in (_NOUN_SPLIT, _ATTRIBUTE_SPLIT, _FLAG_SPLIT, _TEXT_SPLIT, _MODIFIER_SPLIT, _VERB_SPLIT)
    for word in words[0]
}


def _untrained(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word not in _TRAINED)


HELD_OUT = Words(
    _untrained(_NOUN_SPLIT[1]),
    _untrained(_ATTRIBUTE_SPLIT[1]),
    _untrained(_FLAG_SPLIT[1]),
    _untrained((*_TEXT_SPLIT[1], "dialect", "emblem", "genre", "motto", "pseudonym")),
    _untrained(_MODIFIER_SPLIT[1]),
    _untrained(_VERB_SPLIT[1]),
    held_out=True,
)


def invented_word(rng: random.Random, held_out: bool = False) -> str:
    """A word of two or three random syllables. The held-out ones all begin with "k" or "z", the others never do."""
    while True:
        word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3)))) + rng.choice((*_ENDINGS, "", ""))
        if (word[0] in "kz") == held_out and len(word) > 3:
            return word


def plural(word: str) -> str:
    """The English plural, by the ordinary rules."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def camel(name: str) -> str:
    """snake_case as CamelCase."""
    return "".join(part.capitalize() for part in name.split("_"))

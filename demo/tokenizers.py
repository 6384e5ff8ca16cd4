"""The demo's two tokenizers: whole words, synonyms folded together, all other words dropped.

The folding happens in the tokenizer's normaliser, which is stored in `tokenizer.json`: any prompt is lowered,
stripped of punctuation and of every word outside the vocabulary, so unknown words cannot disturb a picture.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from demo.lexicon import SYNONYMS, vocabulary

MAX_TOKENS = 16
"""Tokens of either encoder, end mark included: the longest caption has twelve."""
PAD, END, UNKNOWN, BEGIN = "<pad>", "</s>", "<unk>", "<s>"
SPECIAL = (PAD, END, UNKNOWN, BEGIN)


def words() -> dict[str, int]:
    """Token ids: the special marks, then the vocabulary."""
    return {word: index for index, word in enumerate((*SPECIAL, *vocabulary()))}


def _normaliser() -> normalizers.Normalizer:
    kept = "|".join(vocabulary())
    folds = [
        normalizers.Replace(Regex(rf"\b(?:{'|'.join(others)})\b"), word)
        for word, others in SYNONYMS.items()
        if others
    ]
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[^a-z]+"), " "),
            *folds,
            normalizers.Replace(Regex(rf"\b(?!(?:{kept})\b)[a-z]+\b"), " "),
        ]
    )


def _backend(template: str) -> Tokenizer:
    ids = words()
    backend = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    backend.normalizer = _normaliser()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = [(mark, ids[mark]) for mark in (BEGIN, END)]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=marks)
    return backend


def _wrap(template: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=_backend(template),
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        model_max_length=MAX_TOKENS,
    )


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """Begin mark, words, end mark: CLIP pools at the end mark."""
    return _wrap("<s> $A </s>")


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """Words, end mark."""
    return _wrap("$A </s>")

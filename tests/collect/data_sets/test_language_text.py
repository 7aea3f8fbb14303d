"""The corpus of the language model and the n-gram it is measured against."""

import struct
import zlib

import numpy as np
import pytest

from moe_replay.collect.datasets.text_corpus import SEPARATOR, is_held_out, read_corpus
from moe_replay.collect.datasets.text_sources import lazy_load_strings
from moe_replay.collect.models.byte_ngram import NGram
from moe_replay.traces.errors import InputError


def probabilities(model, context):
    """P of each of the 256 bytes behind a context."""
    texts = (np.array([*context, byte], np.uint8) for byte in range(256))
    return np.array([model.probability(text)[-1] for text in texts])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_ngram_probabilities_sum_to_one_behind_seen_and_unseen_contexts(order):
    text = np.random.default_rng(order).integers(97, 100, 300).astype(np.uint8)
    model = NGram(text, order)
    for context in (text[:order], text[50 : 50 + order], np.full(order, 7, np.uint8)):
        assert probabilities(model, context).sum() == pytest.approx(1)


def test_ngram_of_a_text_that_can_be_counted_by_hand():
    # "abab ac": bigrams ab 2, ba 1, "b " 1, " a" 1, ac 1; four of them once, one twice: D2 = 4 / (4 + 2) = 2/3.
    # Lower order counts distinct bytes in front: a {b, space} 2, b {a} 1, space {b} 1, c {a} 1: D1 = 3 / (3 + 2) = 3/5.
    model = NGram(np.frombuffer(b"abab ac", np.uint8), 2)
    below_b = (1 - 3 / 5) / 5 + (3 / 5) * 4 / 5 / 256
    below_a = (2 - 3 / 5) / 5 + (3 / 5) * 4 / 5 / 256
    behind_a = probabilities(model, b"a")
    assert behind_a[ord("b")] == pytest.approx((2 - 2 / 3) / 3 + (2 / 3) * 2 / 3 * below_b)
    assert behind_a[ord("a")] == pytest.approx((2 / 3) * 2 / 3 * below_a)
    assert probabilities(model, b"z")[ord("b")] == pytest.approx(below_b)


def test_ngram_reaches_the_entropy_of_a_markov_chain():
    draws = np.random.default_rng(0)
    text = np.empty(200_000, np.uint8)
    state = 0
    for place, (stay, jump) in enumerate(zip(draws.random(len(text)), draws.integers(0, 4, len(text)), strict=True)):
        state = state if stay < 0.75 else jump
        text[place] = state
    transition = np.array([0.75 + 0.25 / 4, 0.25 / 4, 0.25 / 4, 0.25 / 4])
    entropy = -(transition * np.log2(transition)).sum()
    train, held_out = text[:150_000], text[150_000:]
    assert NGram(train, 5).bits_per_byte(held_out) == pytest.approx(entropy, abs=0.02)


@pytest.fixture
def folder(tmp_path):
    """Two domains of small files, enough that some are held out."""
    for domain in ("docs", "novels"):
        (tmp_path / domain / "inner").mkdir(parents=True)
    for number in range(60):
        (tmp_path / "docs" / "inner" / f"page{number}.txt").write_text(f"page {number}\n" * 20)
    text = "".join(f"CHAPTER {number}\n\nIt is a truth, {number} times.\n" for number in range(80))
    (tmp_path / "novels" / "book.txt").write_text("Preface\n" + text)
    return tmp_path


def test_documents_are_split_by_name_and_joined_by_separators(folder):
    docs, novels = read_corpus(["docs", "novels"], folder).domains
    assert len(docs.train) + len(docs.held_out) == 60
    assert len(novels.train) + len(novels.held_out) == 81
    assert all(is_held_out(document.name) for document in docs.held_out)
    assert not any(is_held_out(document.name) for document in docs.train)
    assert (docs.train_B == SEPARATOR).sum() == len(docs.train)
    assert bytes(docs.held_out_B[:-1]).split(b"\0") == [document.text for document in docs.held_out]


def test_digests_tell_which_part_changed(folder):
    before = read_corpus(["docs", "novels"], folder)
    page = next(document.name for document in before.domains[0].held_out)
    (folder / "docs" / page).write_text("another page\n")
    after = read_corpus(["docs", "novels"], folder)
    assert after.digest != before.digest
    changed = {part for part in before.digests if before.digests[part] != after.digests[part]}
    assert changed == {"docs.held_out"}


def test_absent_domains_are_named_or_refused(folder, monkeypatch):
    monkeypatch.setattr("moe_replay.collect.datasets.text_sources.NOVELS", folder / "nowhere")
    monkeypatch.setattr("moe_replay.collect.datasets.text_sources.DOCS", folder / "nowhere")
    monkeypatch.delenv("MOE_REPLAY_DATA", raising=False)
    assert list(read_corpus(None, None).absent) == ["docs", "novels"]
    with pytest.raises(InputError, match="domain novels: not on this machine; needs Debian's package r-cran-janeau"):
        read_corpus(["novels"], None)
    with pytest.raises(InputError, match="unknown domain 'poems'; known: code, docs, novels"):
        read_corpus(["poems"], folder)


def test_a_text_that_holds_the_separator_is_refused(folder):
    (folder / "docs" / "page.txt").write_bytes(b"one\0two")
    with pytest.raises(InputError, match=r"domain docs: page\.txt: holds a byte 0"):
        read_corpus(["docs"], folder)


def serialized_strings(lines):
    """R's serialization (XDR, version 2) of a character vector."""
    strings = b"".join(struct.pack(">ii", 0x00040009, len(line)) + line.encode() for line in lines)
    return b"X\n" + struct.pack(">iii", 2, 0x00020300, 0x00020300) + struct.pack(">ii", 16, len(lines)) + strings


def test_a_lazy_load_database_of_strings_is_read(tmp_path):
    pytest.importorskip("rdata", reason="R's databases are read with rdata")
    records = [zlib.compress(serialized_strings(lines)) for lines in (["CHAPTER 1", "one"], ["CHAPTER 2", "two"])]
    content = b"".join(struct.pack(">i", 0) + record for record in records)
    (tmp_path / "Rdata.rdb").write_bytes(content)
    books = list(lazy_load_strings(tmp_path / "Rdata.rdb"))
    assert [book.text for book in books] == [b"CHAPTER 1\none", b"CHAPTER 2\ntwo"]
    (tmp_path / "Rdata.rdb").write_bytes(content[:-9] + b"\0" * 4)
    with pytest.raises(InputError, match="not a record of R's lazy-load database"):
        list(lazy_load_strings(tmp_path / "Rdata.rdb"))

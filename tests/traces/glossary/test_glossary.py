"""The glossary itself: one entry per word, one word per entry, affixes that say what they do."""

import pytest

from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.column import PREFIXES, SUFFIXES
from moe_replay.traces.glossary.lookup import BY_NAME, FAMILIES, entry, explained_by, find, search, title

ENTRIES = [each for family in FAMILIES.values() for each in family]


def test_no_word_stands_for_two_columns():
    words = [word for each in ENTRIES for word in dict.fromkeys([each.name, each.title]) if word]
    assert sorted(words) == sorted(set(words))


def test_every_entry_says_what_it_means():
    for each in ENTRIES:
        assert len(each.meaning.split()) >= 2, each.name
        assert not each.meaning.endswith("."), each.name


def test_an_affix_changes_the_meaning_and_not_the_unit():
    low = find("latency_p50_ms_low")
    assert low.meaning.startswith("lower end of the 95 % interval of: median time")
    assert low.unit == "ms"
    assert explained_by("latency_p50_ms_low") == "latency_p50_ms"
    assert explained_by("hits_half_shuffled_spread") == "hits_half"
    assert entry("_low") is None
    for affix in (*SUFFIXES, *PREFIXES):
        assert entry(affix) is None


def test_a_name_that_has_an_entry_is_not_taken_apart():
    assert find("memory_bytes").meaning == BY_NAME["memory_bytes"].meaning
    assert find("memory_hits").meaning.startswith("of the run's expert memory: ")


def test_printed_titles_and_words_find_entries():
    assert find("busy") is find("utilisation")
    assert title("queue_size") == "B"
    assert title("seed") == "seed"
    assert [each.name for each in search("busy")] == ["utilisation"]
    assert "latency_p99_ms" in [each.name for each in search("LATENCY")]
    assert search("runs") == list(FAMILIES["runs"])
    with pytest.raises(InputError, match="unknown column 'nonsense'"):
        find("nonsense")

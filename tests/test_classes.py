"""The class table: the dataset's own ids and names, in the order of labels."""

import json

import pytest

from visionkit.classes import ClassTable, in_brackets, match_classes
from visionkit.errors import DataError

TABLE = ClassTable(category_ids=(17, 3, 90), names=("cat", "car", "toothbrush"))


def test_labels_are_places_in_the_table() -> None:
    assert len(TABLE) == 3
    assert [TABLE.label(category_id) for category_id in (17, 3, 90)] == [0, 1, 2]


def test_an_id_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        TABLE.label(4)


def test_of_categories_orders_by_id() -> None:
    table = ClassTable.of_categories([(90, "toothbrush"), (3, "car"), (17, "cat")])
    assert table.category_ids == (3, 17, 90)
    assert table.names == ("car", "cat", "toothbrush")


def test_json_keeps_ids_names_and_order() -> None:
    rows = json.loads(json.dumps(TABLE.to_json()))
    assert rows[0] == {"id": 17, "name": "cat"}
    assert ClassTable.from_json(rows) == TABLE


def test_a_table_is_a_value() -> None:
    same = ClassTable((17, 3, 90), ("cat", "car", "toothbrush"))
    TABLE.label(3)  # what is looked up once is remembered, which must not show
    assert same == TABLE
    assert hash(same) == hash(TABLE)


def test_ids_may_be_0_negative_or_large_and_names_in_any_script() -> None:
    table = ClassTable((0, -5, 2**40), ("Käfer", "虫", "a b"))
    assert table.label(2**40) == 2


@pytest.mark.parametrize(
    ("ids", "names", "message"),
    [
        ((), (), "a class table needs at least one class and one name an id, got 0 ids and 0 names"),
        ((1, 2), ("cat",), "a class table needs at least one class and one name an id, got 2 ids and 1 names"),
        ((1, 1, 2), ("a", "b", "c"), "each category id must occur once, 1 occurs more often; rename or merge"),
        ((1, 2, 3), ("b", "a", "b"), "each category name must occur once, b occurs more often; rename or merge"),
        ((1, 2), ("cat", " "), "a category has an empty name; give every category a name"),
    ],
)
def test_what_is_refused(ids: tuple[int, ...], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as error:
        ClassTable(ids, names)
    assert str(error.value) == message


# Two tables by name ---------------------------------------------------------------------------------------------------


def table(*names: str) -> ClassTable:
    return ClassTable(tuple(range(1, len(names) + 1)), names)


def test_classes_meet_by_name_whatever_their_ids_and_order() -> None:
    match = match_classes(table("cat", "zebra", "car"), ClassTable((90, 7, 8), ("car", "dog", "cat")))
    assert match.labels == (2, None, 0)
    assert match.pairs == ((0, 2), (2, 0))
    assert (match.shared, match.missing, match.unused) == (("cat", "car"), ("zebra",), ("dog",))
    assert match.respelled == ()
    assert not match.same


def test_the_same_names_in_another_order_are_the_same_classes() -> None:
    assert match_classes(table("cat", "car"), table("car", "cat")).same


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Dining Table", "diningtable"),
        ("traffic_light", "traffic light"),
        ("T-Shirt", "t shirt"),
        ("STRASSE", "straße"),
        ("café", "cafe\u0301"),  # composed, and e followed by an accent
    ],
)
def test_case_spaces_hyphens_and_underscores_do_not_part_two_names(ours: str, theirs: str) -> None:
    match = match_classes(table("dog", ours), table(theirs, "dog"))
    assert match.labels == (1, 0)
    assert match.respelled == ((ours, theirs),)
    assert not match.same  # it must be said


@pytest.mark.parametrize(
    ("wanted", "given", "labels"),
    [
        (("Dog",), ("dog", "DOG"), (None,)),  # which of the two?
        (("Dog", "DOG"), ("dog",), (None, None)),
        (("Dog", "dog"), ("dog",), (None, 0)),  # an exact name leaves no doubt
        (("dog", "Dog"), ("dog", "DOG"), (0, None)),
        (("-",), ("_",), (None,)),  # nothing is left of either to compare
        (("cat",), ("cats",), (None,)),
    ],
)
def test_where_there_is_doubt_nothing_matches(
    wanted: tuple[str, ...], given: tuple[str, ...], labels: tuple[int | None, ...]
) -> None:
    assert match_classes(table(*wanted), table(*given)).labels == labels


def test_long_lists_of_names_are_cut_and_counted() -> None:
    assert in_brackets(()) == ""
    assert in_brackets(("cat", "dog")) == " (cat, dog)"
    assert in_brackets(tuple("abcdefgh")) == " (a, b, c, d, e, f, g, h)"
    assert in_brackets(tuple("abcdefghij")) == " (a, b, c, d, e, f, g, h, 2 more)"

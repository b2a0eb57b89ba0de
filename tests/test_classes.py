"""The class table: the dataset's own ids and names, in the order of labels."""

import json

import pytest

from visionkit.classes import ClassTable
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

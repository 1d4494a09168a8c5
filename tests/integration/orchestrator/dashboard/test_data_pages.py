from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from metafleet.contracts.settings import Settings
from metafleet.data.importing.importer import import_folder
from metafleet.data.importing.options import FolderOptions
from metafleet.data.registry import open_data
from metafleet.db.records import DescriptionRecord
from metafleet.db.repositories.descriptions import DescriptionRepository
from metafleet.describing.description import VERSION, Description, Landmark
from metafleet.errors import DataMissingError
from metafleet.orchestrator.dashboard.data_sets import find_sets, get_set
from tests.dashboard import Served, check_page
from tests.folders import CLASSES, picture, write

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def pets(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a machine on which a folder was imported, with two broken files left out."""
    names = (*CLASSES, HOSTILE)
    files = {f"{name}/{i}.png": picture(10 * n + i) for n, name in enumerate(names) for i in (1, 2)}
    broken = {f"{CLASSES[0]}/broken.png": b"no picture", f"{CLASSES[1]}/empty.png": b""}
    folder = write(tmp_path / "pets", files | broken)
    options = FolderOptions(path=str(folder), skip_bad=True, split="hashed")
    import_folder(options, settings.data_dir, name="pets")
    return settings


def test_sets_are_listed_with_what_was_left_out(pets: Settings, served: Served, page: Page) -> None:
    page.goto(served.url)
    page.get_by_role("link", name="Data", exact=True).click()
    row = page.locator("#prepared tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("imported")
    expect(row).to_contain_text("26")
    expect(row.locator(".reason")).to_contain_text("1 empty-file, 1 bad-image")
    absent = page.locator("#absent")
    expect(absent).to_contain_text("not prepared; run `metafleet data prepare omniglot`")
    expect(absent.locator("tr", has_text="sinusoid")).to_contain_text("computed when needed")


def test_a_set_shows_problems_sheet_classes_and_meta_features(
    pets: Settings, served: Served, page: Page
) -> None:
    bound = open_data({"name": "folder", "imported": "pets"}, pets.data_dir)
    landmark = Landmark("raw", "accuracy", 5, 1, 200, 0.6251, 0.0123)
    description = Description(
        name="pets",
        digest=bound.digest(),
        figures={"items": 26.0, "evenness": 0.987},
        landmarks=(landmark,),
    )
    record = DescriptionRecord(
        data_digest=bound.digest(),
        version=VERSION,
        name="pets",
        options={"name": "folder"},
        description=description.to_json(),
    )
    with served.database.session() as session:
        DescriptionRepository(session).put(record)
    page.goto(f"{served.url}/data/pets")
    expect(page.locator("#problems tbody tr")).to_have_count(2)
    expect(page.locator("#problems")).to_contain_text(f"{CLASSES[0]}/broken.png")
    sheet = page.locator("img.sheet")
    sheet.scroll_into_view_if_needed()
    expect(sheet).to_have_js_property("complete", True)
    assert sheet.evaluate("image => image.naturalWidth") > 100
    shown = set()
    for split in ("meta_train", "meta_val", "meta_test"):
        page.locator("nav[aria-label=Split]").get_by_role("link", name=split).click()
        expect(page.locator("nav[aria-label=Split] [aria-current]")).to_contain_text(split)
        shown |= set(page.locator("#classes tbody th").all_text_contents())
    assert shown == {*CLASSES, HOSTILE}
    expect(page.locator(".figures")).to_contain_text("0.987")
    expect(page.locator(".landmarks")).to_contain_text("62.51 ± 1.23 %")
    check_page(page, f"{served.url}/data/pets")
    check_page(page, f"{served.url}/data")


def test_without_data_the_pages_say_how_to_get_them(served: Served, page: Page) -> None:
    page.goto(f"{served.url}/data")
    expect(page.locator(".empty")).to_contain_text("metafleet data import FOLDER")
    page.goto(f"{served.url}/data/omniglot")
    expect(page.locator(".empty")).to_contain_text("metafleet data prepare omniglot")
    for name in ("nothing", "..", HOSTILE):
        answer = page.goto(f"{served.url}/data/{quote(name, safe='')}/sheet.png")
        assert answer is not None
        assert answer.status == 404
    page.goto(f"{served.url}/data/{quote(HOSTILE, safe='')}")
    expect(page.get_by_role("alert")).to_contain_text(HOSTILE)


def test_pages_do_not_prepare_data(pets: Settings) -> None:
    before = sorted(pets.data_dir.rglob("*"))
    found = {one.name: one for one in find_sets(pets.data_dir)}
    assert found["pets"].data is not None
    assert found["glyphs"].data is None
    assert sorted(pets.data_dir.rglob("*")) == before


def test_a_damaged_folder_is_one_line(pets: Settings) -> None:
    data = get_set(pets.data_dir, "pets").data
    assert data is not None
    (data.prepared.path / "image.npy").write_bytes(b"short")
    damaged = get_set(pets.data_dir, "pets")
    assert damaged.data is None
    assert "prepared data are damaged" in damaged.hint
    with pytest.raises(DataMissingError, match="there is no data set 'dogs'"):
        get_set(pets.data_dir, "dogs")

"""The HTML report in a real browser: headless Chromium opens the file and does what a person would."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Page as Tab

from fastxai.compare import agreement
from fastxai.report import ReportOptions, write_report
from fastxai.results import Found
from fastxai.store import Run

Store = Callable[..., Run]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium: scripts/browser installs one where it can")
    with sync_playwright() as playwright:
        root = ["--no-sandbox"] * (os.geteuid() == 0)  # Chromium refuses to start as root with its sandbox
        opened = playwright.chromium.launch(executable_path=path, args=root)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(varied: Found, stored: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    return write_report(stored(varied, folder / "run"), folder / "report.html").path


@pytest.fixture
def tab(browser: Browser, report: Path) -> Iterator[Tab]:
    """The report, opened; at the end nothing was complained about, asked for or run that is not the page's own."""
    yield from opened(browser, report)


def opened(browser: Browser, report: Path, **options: Any) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, **options)
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    yield page
    page.wait_for_timeout(50)
    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert page.evaluate("typeof window.hacked") == "undefined"
    context.close()


def names(tab: Tab) -> list[str]:
    """Of the gallery's cards, also those that are not drawn yet: their inner text is empty until then."""
    return tab.locator("#grid .name").all_text_contents()


def places(tab: Tab, varied: Found) -> list[int]:
    """The run's numbers of the images in the gallery, in its order."""
    given: list[str] = tab.evaluate("INDEX.ids")
    return [given.index(name) for name in names(tab)]


def until(tab: Tab, expression: str) -> None:
    """Wait for something in the page: playwright's own way evaluates text inside it, which its policy refuses."""
    for _ in range(600):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"{expression} did not come true in 30 seconds")


def ready(tab: Tab, image: int) -> None:
    tab.wait_for_selector(f"#viewer[data-ready='{image}']")


def pixels(tab: Tab, name: str = "last") -> int:
    """A number for the large view's colours; they are kept in the page under a name."""
    found: int = tab.evaluate(
        """(name) => {
            const canvas = $("#canvas");
            const made = new OffscreenCanvas(canvas.width, canvas.height);
            const copy = made.getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, 0, 0);
            const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
            (window.pictures ??= {})[name] = data;
            return data.reduce((sum, value) => (Math.imul(sum, 31) + value) | 0, 7);
        }""",
        name,
    )
    return found


def test_the_gallery_shows_all_images_with_thumbnails(tab: Tab) -> None:
    assert len(names(tab)) == 11
    assert tab.locator("#count").inner_text() == "11 images"
    until(tab, "[...document.querySelectorAll('.thumb')].every((img) => img.complete && img.naturalWidth)")


def test_hostile_names_are_shown_and_run_nothing(tab: Tab, varied: Found) -> None:
    shown = names(tab)
    assert "<script>window.hacked = 1</script>.png" in shown
    assert "../../etc/passwd" in shown
    assert any("\\n" in name for name in shown)
    for place in range(4, 11):
        tab.locator(".card").nth(place).click()
        ready(tab, place)
        assert tab.locator("#viewer-title").inner_text() == shown[place]
        tab.keyboard.press("Escape")
    assert tab.locator("#viewer [onerror]").count() == 0


def test_sorting(tab: Tab, varied: Found) -> None:
    good = range(11)
    tab.select_option("#sort", "confidence")
    assert places(tab, varied) == list(good)  # made in falling order; the most confident come first
    tab.click("#direction")
    assert places(tab, varied) == list(reversed(good))
    tab.select_option("#first", label="GradientSHAP")
    tab.select_option("#second", label="Grad-CAM")
    tab.select_option("#sort", "iou")
    iou = agreement(varied, "gradient-shap", "gradcam").iou
    assert places(tab, varied) == sorted(good, key=lambda place: float(iou[place]))
    tab.select_option("#sort", "disagreement")
    pairs = [("lime", "gradient-shap"), ("lime", "gradcam"), ("gradient-shap", "gradcam")]
    mean = torch.stack([agreement(varied, *pair).iou for pair in pairs]).mean(0)
    assert places(tab, varied) == sorted(good, key=lambda place: float(mean[place]))
    tab.select_option("#sort", "name")
    shown = names(tab)
    assert shown.index("astronaut.png") < shown.index("chelsea.png") < shown.index("rocket.jpg")


def test_a_pair_is_never_a_method_with_itself(tab: Tab) -> None:
    tab.select_option("#first", label="Grad-CAM")
    assert tab.locator("#second").input_value() != tab.locator("#first").input_value()


def test_filtering(tab: Tab, varied: Found) -> None:
    tab.fill("#search", "JPG")
    until(tab, "$('#count').textContent === '1 of 11 images'")
    assert names(tab) == ["rocket.jpg"]
    tab.click("#reset")
    assert len(names(tab)) == 11
    tab.select_option("#class", "2")
    assert places(tab, varied) == [2, 6, 10]
    tab.select_option("#class", "")
    tab.select_option("#outcome", "right")
    assert places(tab, varied) == [0, 3, 6, 9]
    tab.click("#reset")
    tab.locator("#filters summary").click()
    tab.locator("[data-range=confidence] input").first.fill("0.8")
    kept = [place for place in range(11) if varied.probabilities[place, 0] >= 0.8]
    assert places(tab, varied) == kept
    tab.locator("[data-range=iou] input").last.fill("0")
    assert names(tab) == []
    assert tab.locator("#count").inner_text() == "0 of 11 images"
    tab.locator(".classes button").first.click()
    tab.click("#reset")
    assert len(names(tab)) == 11


def test_the_slider_and_the_switches_change_what_is_drawn(tab: Tab) -> None:
    tab.locator(".card").first.click()
    ready(tab, 0)
    full = pixels(tab, "full")
    tab.locator("#opacity").fill("0")
    plain = pixels(tab, "plain")
    assert plain != full
    tab.locator("#opacity").fill("50")
    assert tab.locator("#opacity-value").inner_text() == "50%"
    pixels(tab, "half")
    assert tab.evaluate(
        """() => {
            const { plain, half, full } = window.pictures;
            return half.every((value, i) => {
                const [low, high] = [Math.min(plain[i], full[i]), Math.max(plain[i], full[i])];
                return value >= low - 2 && value <= high + 2;
            });
        }"""
    )
    tab.click("#overlay")
    assert pixels(tab) == plain
    tab.click("#outlines")
    assert pixels(tab) != plain
    tab.click("#outlines")
    tab.locator(".map", has_text="Grad-CAM").click()
    assert pixels(tab) not in (plain, full)
    assert tab.locator(".map[aria-checked=true]").inner_text() == "Grad-CAM"


def test_weights_are_told_under_the_pointer_and_in_a_list(tab: Tab, varied: Found) -> None:
    tab.locator(".card").first.click()
    ready(tab, 0)
    box = tab.locator("#canvas").bounding_box()
    assert box is not None
    segments, weights = varied["lime"].segments, varied["lime"].weights[0, 0]
    assert segments is not None
    for y, x in ((10, 12), (50, 60)):
        tab.mouse.move(box["x"] + (x + 0.5) * box["width"] / 72, box["y"] + (y + 0.5) * box["height"] / 64)
        label = int(segments[0, y, x])
        said = tab.locator("#tip").inner_text().split(" · ")
        assert said[0] == f"superpixel {label}"
        assert float(said[1].removeprefix("weight ").replace("−", "-")) == pytest.approx(
            float(weights[label]), rel=6e-3
        )
    order = weights[: int(segments[0].max()) + 1].abs().argsort(descending=True)[:10]
    listed = [int(text.splitlines()[0].removeprefix("#")) for text in tab.locator("#weights li").all_inner_texts()]
    assert listed == order.tolist()
    before = pixels(tab)
    tab.locator("#weights button").nth(1).focus()
    assert pixels(tab) != before


def test_labels_weights_and_masks_arrive_exactly(tab: Tab, varied: Found) -> None:
    tab.locator(".card").nth(3).click()
    ready(tab, 3)
    segments = varied["lime"].segments
    assert segments is not None
    assert tab.evaluate("[...stage.image.labels[0].labels]") == segments[3].flatten().tolist()
    mask = varied["gradcam"].mask(top_fraction=0.2)[3, 0].flatten().int().tolist()
    assert tab.evaluate("[...stage.image.masks[2].mask]") == mask


def test_the_keyboard(tab: Tab) -> None:
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "search"
    tab.keyboard.type("coffee")
    until(tab, "$('#count').textContent === '1 of 11 images'")
    tab.keyboard.press("Escape")
    until(tab, "$('#count').textContent === '11 images'")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.dataset.place") == "0"
    columns = tab.evaluate("gallery.columns")
    for key, place in (("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowUp", 1), ("ArrowLeft", 0)):
        tab.keyboard.press(key)
        assert tab.evaluate("document.activeElement.dataset.place") == str(place)
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    ready(tab, 1)
    tab.keyboard.press("ArrowRight")
    ready(tab, 2)
    tab.keyboard.press("ArrowLeft")
    ready(tab, 1)
    tab.keyboard.press("3")
    assert tab.locator(".map[aria-checked=true]").inner_text() == "Grad-CAM"
    tab.keyboard.press("a")
    assert "both: IoU" in tab.locator("#scale").inner_text()
    tab.keyboard.press("ArrowDown")
    assert tab.locator("#opacity-value").inner_text() == "90%"
    tab.keyboard.press("o")
    assert tab.locator("#overlay").get_attribute("aria-pressed") == "false"
    tab.keyboard.press("s")
    assert tab.locator("#outlines").get_attribute("aria-pressed") == "true"
    tab.keyboard.press("?")
    assert tab.evaluate("$('#help').open")
    tab.keyboard.press("Escape")
    assert tab.evaluate("!$('#help').open && $('#viewer').open")
    tab.keyboard.press("Escape")
    assert tab.evaluate("!$('#viewer').open")
    until(tab, "document.activeElement.dataset.place === '1'")


@pytest.mark.parametrize("system", ["light", "dark"])
def test_light_and_dark(browser: Browser, report: Path, system: str) -> None:
    for tab in opened(browser, report, color_scheme=system):
        ground = "getComputedStyle(document.body).backgroundColor"
        colors = [tab.evaluate(ground)]
        for _ in range(3):
            tab.keyboard.press("t")
            colors.append(tab.evaluate(ground))
        automatic, light, dark, again = colors
        assert light != dark
        assert automatic == again == (light if system == "light" else dark)


def test_every_control_has_a_name(tab: Tab) -> None:
    tab.locator(".card").first.click()
    ready(tab, 0)
    tab.keyboard.press("Escape")
    unnamed = tab.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas[role], [role=region], dialog")].filter(
            (node) => !(node.ariaLabel || node.getAttribute("aria-labelledby") || node.labels?.length
                        || node.textContent.trim() || node.title)).map((node) => node.outerHTML)"""
    )
    assert unnamed == []
    assert tab.evaluate("document.querySelectorAll('h1').length") == 1


def test_a_narrow_screen_does_not_scroll_sideways(browser: Browser, report: Path) -> None:
    for tab in opened(browser, report):
        for width in (1400, 768, 400, 320):
            tab.set_viewport_size({"width": width, "height": 800})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.locator(".card").first.click()
        ready(tab, 0)
        assert tab.evaluate("$('#viewer').scrollWidth") <= 320


def test_many_images_are_made_as_they_are_scrolled_to(
    browser: Browser, varied: Found, stored: Store, tmp_path: Path
) -> None:
    small = replace(varied, methods={"gradcam": varied["gradcam"]})
    many = [place % 11 for place in range(250)]
    found = replace(
        small,
        **{name: tuple(getattr(small, name)[place] for place in many) for name in ("digests", "errors")},
        ids=tuple(f"{number:03}.png" for number in range(250)),
        **{
            name: getattr(small, name)[many]
            for name in ("status", "sizes", "crops", "labels", "images", "predictions", "probabilities", "targets")
        },
        methods={"gradcam": replace(small["gradcam"], data={k: v[many] for k, v in small["gradcam"].data.items()})},
    )
    path = write_report(stored(found, tmp_path / "run"), tmp_path / "x.html").path
    for tab in opened(browser, path):
        assert tab.locator("#count").inner_text() == "250 images"
        assert tab.locator("[data-pairs]:visible").count() == 0
        made = tab.locator(".card").count()
        assert made < 250
        tab.keyboard.press("End")
        until(tab, f"document.querySelectorAll('.card').length > {made}")
        tab.select_option("#sort", "name")
        tab.click("#direction")
        assert names(tab)[0] == "249.png"
        tab.locator(".card").first.click()
        ready(tab, 249)


def test_an_image_whose_maps_were_left_out_says_so(
    browser: Browser, varied: Found, stored: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastxai.report import html

    monkeypatch.setattr(html, "LEVELS", html.LEVELS[:1])
    run = stored(varied, tmp_path / "run")
    whole = write_report(run, tmp_path / "x.html")
    less = write_report(run, tmp_path / "x.html", options=ReportOptions(max_size=whole.size - 15_000))
    assert 0 < less.whole < 11
    for tab in opened(browser, less.path):
        assert tab.locator("[data-note]").inner_text().startswith("Maps of ")
        tab.locator(".card").nth(10).click()
        ready(tab, 10)
        assert tab.locator("#left-out").is_visible()
        tab.keyboard.press("2")
        assert "no map" in tab.locator("#scale").inner_text()
        tab.keyboard.press("a")

"""The page for humans, looked at with a real browser."""

from __future__ import annotations

import shutil
import threading

import pytest

from tests.e2e.harness import Daemon, wait_until
from tests.e2e.steps import running
from tests.e2e.web import over_tcp

pytestmark = pytest.mark.system

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Service = pytest.importorskip("selenium.webdriver.chrome.service").Service

# Nothing of it may ask for anything outside.
BROWSER_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = "<img src=x onerror=alert(1)>'\"&amp;\u202e"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("Chromium is not installed (Debian: chromium, chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*BROWSER_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    browser = selenium.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    flags = ("-pprof", "-pprof-port", "0", "-session-buffer", "64K")
    daemon = Daemon(tmp_path_factory.mktemp("debug"), *flags)
    yield daemon
    assert daemon.stop() == 0, daemon.log
    assert "Traceback" not in daemon.log, daemon.log


@pytest.fixture
def daemon(shared):
    """Here ``daemon`` is the one that has the page."""
    return shared


@pytest.fixture
def page(browser, daemon):
    page = Page(browser, "http://%s:%d/" % over_tcp(daemon).address)
    yield page
    assert page.complaints() == []


class Page:
    def __init__(self, browser, url: str):
        self.browser = browser
        self.size(1280, 900)
        self.url = url
        browser.get(url)
        self.wait_for("live")

    def size(self, width: int, height: int, scheme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments):
        return self.browser.execute_script(script, *arguments)

    @property
    def text(self) -> str:
        return self.run("return document.body.innerText")

    def by_id(self, name: str) -> str:
        return self.run("return document.getElementById(arguments[0]).innerText", name)

    def rows(self, body: str) -> list[list[str]]:
        script = """return Array.from(document.getElementById(arguments[0]).children,
            (row) => Array.from(row.children, (cell) => cell.innerText.trim()))"""
        return self.run(script, body)

    def cell(self, vm_id: str, column: str) -> str:
        heads = self.run(
            "return Array.from(document.querySelectorAll('#vm-head th'), (each) => each.innerText)"
        )
        place = [head.split()[0] for head in heads].index(column)
        found = [row for row in self.rows("vm-rows") if row[0] == vm_id]
        return found[0][place] if found else ""

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.text, f"the page says '{text}'")

    def complaints(self) -> list[str]:
        return [each["message"] for each in self.browser.get_log("browser")]


def test_it_shows_the_vm_and_its_rate_moves(page, registered, daemon, vm_id) -> None:
    vm, runtime = registered
    page.wait_for(vm_id)
    wait_until(lambda: page.cell(vm_id, "Output") == "0\u00a0B/s", "there is a rate")
    assert page.by_id("output").startswith("0\u00a0B/s")
    with running(daemon, runtime, vm, vm_id) as shim:
        done = threading.Event()

        def flow() -> None:
            while not done.is_set():
                vm.output(1, b"x" * 1000)
                shim.read_stdout_bytes(1000)
                done.wait(0.01)

        flowing = threading.Thread(target=flow)
        flowing.start()
        try:
            wait_until(lambda: "KiB/s" in page.cell(vm_id, "Output"), "the VM's rate moves")
            wait_until(lambda: "KiB/s" in page.by_id("output"), "the daemon's rate moves")
            points = page.run("return document.getElementById('graph-output').points.length")
            assert points > 1
        finally:
            done.set()
            flowing.join()


def test_what_is_stuck_is_told(page, registered, daemon, vm_id) -> None:
    vm, runtime = registered
    assert page.by_id("stuck-none") == "Nothing."
    with running(daemon, runtime, vm, vm_id):
        for _ in range(80):  # more than the socket and the buffer take
            vm.output(1, b"x" * 60_000)
        page.wait_for("shims that do not keep up")
        assert page.rows("stuck")[0][0] == vm_id
        assert page.browser.title == "cc-proxy: 1 stuck"


def test_a_vm_opens_by_keyboard_and_shows_its_sessions(page, registered, vm_id) -> None:
    _, runtime = registered
    runtime.attach(vm_id, 3)
    page.wait_for(vm_id)
    button = page.browser.find_element(By.CSS_SELECTOR, "button.open")
    button.send_keys(Keys.ENTER)
    page.wait_for("allocated for")
    assert button.get_attribute("aria-expanded") == "true"
    assert page.text.count("allocated for") == 3
    # It keeps the focus while the page is brought up to date.
    runtime.attach(vm_id, 1)
    wait_until(lambda: page.text.count("allocated for") == 4, "the fourth session is shown")
    assert page.run("return document.activeElement") == button
    button.send_keys(Keys.SPACE)
    wait_until(lambda: "allocated for" not in page.text, "the VM is closed")


def test_foreign_text_is_only_text(page, daemon, scripted) -> None:
    vm = scripted()
    accepting = threading.Thread(target=vm.accept)
    accepting.start()
    with daemon.client() as runtime:
        runtime.register(vm, HOSTILE, 1)
        accepting.join()
        page.wait_for(HOSTILE.replace("\u202e", ""))
        page.browser.find_element(By.CSS_SELECTOR, "button.open").click()
        page.wait_for("allocated for")
        assert page.run("return document.images.length") == 0
        # All that it has asked for is its own.
        urls = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
        assert urls
        assert all(url.startswith(page.url) for url in urls)


def test_many_vms_fit_on_phones_and_wide_screens(page, daemon, scripted) -> None:
    with daemon.client() as waiting:
        for number in range(60):
            vm = scripted()
            accepting = threading.Thread(target=vm.accept)
            accepting.start()
            with daemon.client() as runtime:
                runtime.register(vm, f"{number:064x}")
            accepting.join()
        page.wait_for("Show all 60 VMs")
        assert len(page.rows("vm-rows")) == 50
        grounds = set()
        for width, scheme in ((320, "light"), (390, "dark"), (1440, "light"), (2560, "dark")):
            page.size(width, 900, scheme)
            wide, inner = page.run("return [document.documentElement.scrollWidth, innerWidth]")
            assert inner == width
            assert wide <= width
            assert page.run("""return Array.from(document.querySelectorAll(".scroll"))
                .every((each) => each.scrollWidth <= each.clientWidth)"""), width
            grounds.add(page.run("return getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2
        page.browser.find_element(By.ID, "all").click()
        assert len(page.rows("vm-rows")) == 60
        page.browser.find_element(By.ID, "filter").send_keys("3b")
        assert [row[0][-2:] for row in page.rows("vm-rows")] == ["3b"]
        waiting.close()


def test_it_tells_when_the_daemon_is_gone(browser, start_daemon) -> None:
    daemon = start_daemon("-pprof", "-pprof-port", "0")
    page = Page(browser, "http://%s:%d/" % over_tcp(daemon).address)
    assert page.by_id("vms-none") == "No VM is registered."
    assert daemon.stop() == 0
    page.wait_for("the daemon does not answer")
    # A question may have been on its way when the daemon ended.
    assert all("net::ERR_" in each for each in page.complaints())

import pytest

from visionkit.data.memory import available_memory

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"
FREE = 8_000_000 * 1024


@pytest.fixture
def linux(tmp_path):
    """A machine with 8,192,000,000 bytes available; the function writes its control groups."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(MEMINFO)

    def available(groups, files):
        (proc / "self" / "cgroup").write_text(groups)
        for name, text in files.items():
            file = cgroup / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return available_memory(proc, cgroup)

    return available


def test_without_limits_it_is_what_the_kernel_says(linux):
    assert linux("0::/user.slice\n", {}) == FREE
    assert linux("0::/user.slice\n", {"user.slice/memory.max": "max\n", "user.slice/memory.current": "9\n"}) == FREE


def test_limit_of_the_group_less_what_it_uses(linux):
    files = {
        "a/b/memory.max": "1000\n",
        "a/b/memory.current": "700\n",
        "a/b/memory.stat": "anon 500\ninactive_file 150\nactive_file 50\n",
    }
    # 1000 - 700 used, of which 150 are files that can be dropped.
    assert linux("0::/a/b\n", files) == 450


def test_limit_of_a_group_around_it(linux):
    files = {
        "a/b/memory.max": "max\n",
        "a/b/memory.current": "10\n",
        "a/memory.max": "500\n",
        "a/memory.current": "100\n",
    }
    assert linux("0::/a/b\n", files) == 400


def test_in_a_container_the_root_holds_the_limit(linux):
    # The path is the host's; only the root is mounted.
    assert linux("0::/docker/0123\n", {"memory.max": "300\n", "memory.current": "50\n"}) == 250


def test_version_1(linux):
    files = {
        "memory/x/memory.limit_in_bytes": "900\n",
        "memory/x/memory.usage_in_bytes": "400\n",
        "memory/x/memory.stat": "total_inactive_file 100\n",
    }
    assert linux("7:cpu,cpuacct:/y\n5:memory:/x\n", files) == 600


def test_more_used_than_allowed_is_nothing_left(linux):
    assert linux("0::/\n", {"memory.max": "100\n", "memory.current": "130\n"}) == 0


def test_elsewhere_it_is_a_guess_above_nothing(tmp_path):
    assert available_memory(tmp_path / "none", tmp_path / "none") >= 10**8

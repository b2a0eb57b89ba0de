"""The scaling estimate: its arithmetic, and one measurement between two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "bench"))

from scaling import SMALL_SUMS, Network, efficiency

BENCH = Path(__file__).parents[2] / "tools" / "bench"


def test_a_network_is_told_from_two_all_reduces() -> None:
    # Between four processes there are 2 * 3 rounds: 6 latencies, and six times a quarter of 400 MB.
    network = Network.measured(processes=4, small=0.006, large=0.606, size=400_000_000)
    assert network.latency == pytest.approx(0.001)
    assert network.bandwidth == pytest.approx(1e9)
    assert network.seconds(4, 400_000_000) == pytest.approx(0.606)
    assert network.seconds(2, 400_000_000) == pytest.approx(2 * (0.001 + 0.2))


def test_one_process_sends_nothing() -> None:
    assert efficiency(0.5, Network(0.001, 1e9), 1, 400_000_000) == 1


def test_what_the_page_says_of_a_hundred_megabytes_between_four_machines() -> None:
    # 25 MB in each of 6 rounds: 1.2 s at 1 Gbit/s, and a step of 0.15 s.
    for gigabits, share in ((1, 0.11), (10, 0.56), (100, 0.93)):
        network = Network(0.0, gigabits * 1e9 / 8)
        assert round(efficiency(0.15, network, 4, 100_000_000), 2) == share


def test_latency_counts_for_the_small_sums_too() -> None:
    network = Network(0.001, 1e18)
    # 6 rounds of 1 ms, once for the gradients and for each of the small ones.
    assert efficiency(0.1, network, 4, 8) == pytest.approx(0.1 / (0.1 + 0.006 * (1 + SMALL_SUMS)))


@pytest.mark.skipif(sys.platform == "win32", reason="torch has no gloo launcher there")
def test_it_measures_between_two_processes() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    flags = ["--imgsz=64", "--batch=2", "--rounds=1", "--processes=2,8", "--device=cpu", "--json"]
    done = subprocess.run(
        [*launcher, str(BENCH / "scaling.py"), *flags], check=False, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["step"] > 0
    assert found["bandwidth"] > 0
    two, eight = found["estimates"]
    assert 0 < eight["efficiency"] < two["efficiency"] < 1
    assert eight["images_per_second"] > 0

import pytest

torch = pytest.importorskip("torch")

from fewbits.lossy.noise import fractions, hashes, keys  # noqa: E402

CPU = torch.device("cpu")
MASK = (1 << 32) - 1


def plain_hash(place, seed):
    key0, key1 = keys(seed)
    x = (place ^ key0) & MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15) ^ key1) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


@pytest.mark.parametrize("seed", [0, 1, -1, 12345678901234567890])
def test_hash_is_the_one_of_the_formula(seed):
    places = torch.tensor([0, 1, 2, 255, 1 << 31, (1 << 32) - 1, (1 << 32) + 7])
    expected = [plain_hash(place, seed) for place in places.tolist()]
    assert [value & MASK for value in hashes(places, seed).tolist()] == expected


def test_keys_of_a_known_seed():
    # The first output of SplitMix64 from state 0, as its authors' code gives it.
    assert keys(0) == (0x7B1DCDAF, 0xE220A839)


def test_fractions_are_spread_evenly_and_do_not_follow_each_other():
    u = fractions(1 << 18, 7, CPU)
    assert float(u.min()) >= 0 and float(u.max()) < 1
    counts = torch.histc(u, 64, 0, 1)
    # 4096 in each of 64 bins, give or take 64: six standard deviations.
    assert float((counts - 4096).abs().max()) < 6 * 64
    pairs = torch.corrcoef(torch.stack([u[:-1], u[1:]]))[0, 1]
    other = torch.corrcoef(torch.stack([u, fractions(1 << 18, 8, CPU)]))[0, 1]
    assert abs(float(pairs)) < 0.012 and abs(float(other)) < 0.012


def test_a_part_of_the_places_has_its_part_of_the_fractions():
    assert torch.equal(fractions(100, 3, CPU)[40:], fractions(60, 3, CPU, first=40))


def test_no_global_generator_is_used():
    torch.manual_seed(5)
    first = torch.rand(3)
    torch.manual_seed(5)
    fractions(1000, 1, CPU)
    assert torch.equal(torch.rand(3), first)

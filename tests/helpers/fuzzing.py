"""Cases that hypothesis draws: as many as CI has time for, always the same; or many new ones with ``make fuzz``."""

from collections import Counter

from hypothesis import HealthCheck, Phase, settings

PROFILES = {  # name -> what is different, and times as many cases as a test asks for
    "ci": ({"derandomize": True}, 1),
    "fuzz": ({"print_blob": True}, 20),
    "mutants": ({"derandomize": True, "phases": (Phase.explicit, Phase.generate)}, 1),  # without the smallest failure
}
LOADED = ["ci"]  # the name of the last one that was loaded
PASSED = Counter()  # name of a test -> cases that it went through so far


def load_profile(name):
    """Make one of the profiles the one of all tests that draw."""
    for known, (options, _) in PROFILES.items():
        settings.register_profile(known, deadline=None, database=None, **options)
    settings.load_profile(name)
    LOADED.append(name)


def cases(count):
    """Let hypothesis draw so many cases in CI, and count those that a test goes through."""

    def decorate(test):
        inner = test.hypothesis.inner_test

        def counted(*args, **kwargs):
            inner(*args, **kwargs)
            PASSED[inner.__name__] += 1

        test.hypothesis.inner_test = counted
        _, times = PROFILES[LOADED[-1]]
        slow = (HealthCheck.too_slow, HealthCheck.data_too_large)  # of the machine, not of the tests
        return settings(max_examples=count * times, suppress_health_check=slow)(test)

    return decorate

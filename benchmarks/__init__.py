"""Side by side with hand-written SQL, as ratios within one run; never part of the tests."""

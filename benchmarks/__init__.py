"""Side by side with hand-written SQL and with peers, as ratios within one run; never part of the tests."""

from tuidl.tui.link import ASK, GIVE_UP, PATIENCE, Link


class Line:
    def __init__(self) -> None:
        self.now, self.written = 100.0, []

    def link(self) -> Link:
        return Link(self.written.append, lambda: self.now)


def test_the_next_frame_waits_for_the_answer_to_the_last() -> None:
    line = Line()
    link = line.link()
    assert link.ready
    link.frame_sent()
    assert line.written == [ASK] and not link.ready
    line.now += 0.4
    link.answered()
    assert link.ready and round(link.latency, 3) == 0.4


def test_a_terminal_that_never_answers_is_paced_by_the_clock() -> None:
    line = Line()
    link = line.link()
    link.frame_sent()
    line.now += PATIENCE + 0.1
    assert link.ready and link.mute
    link.frame_sent()
    assert line.written == [ASK], "a mute terminal is not asked again"
    assert link.ready


def test_an_answer_that_is_lost_does_not_stop_the_screen_for_ever() -> None:
    line = Line()
    link = line.link()
    link.frame_sent()
    link.answered()
    link.frame_sent()
    line.now += PATIENCE + 1
    assert not link.ready and not link.mute, "slow is not mute once it has answered"
    line.now += GIVE_UP
    assert link.ready


def test_the_state_speaks_only_of_a_slow_line() -> None:
    line = Line()
    link = line.link()
    assert link.state == ""
    link.frame_sent()
    line.now += 0.02
    link.answered()
    assert link.state == ""
    link.frame_sent()
    line.now += 1.23
    assert link.state == "link slow: 1.2 s"


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    link = Line().link()
    link.answered()
    assert link.ready and link.latency == 0

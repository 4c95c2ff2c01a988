"""tuidl's own themes: the six colours of a chart told apart by most eyes, also on 256 and on 16 colours."""

from textual.theme import Theme

DARK = Theme(
    name="tuidl-dark", dark=True, background="#101418", surface="#171c21", panel="#20262d", foreground="#e3e7ea",
    primary="#4aa3ff", secondary="#e07be0", accent="#35c9b8", warning="#f6b73c", success="#62d26f", error="#ff6b61",
)  # fmt: skip
LIGHT = Theme(
    name="tuidl-light", dark=False, background="#f4f5f6", surface="#ffffff", panel="#e6e9ec", foreground="#1c2126",
    primary="#0b62c4", secondary="#a0309f", accent="#007a70", warning="#a86400", success="#1d7a2d", error="#c4261d",
)  # fmt: skip

"""A card as files: tables, its figure, and a page with both."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from brainrdl.files.store import atomic_path
from brainrdl.known import METHODS
from brainrdl.plots._style import FONT
from brainrdl.plots.dots import score_dots
from brainrdl.studies.card import MIXTURE, Card
from brainrdl.studies.reports.fit_findings import interval_unit
from brainrdl.studies.reports.fit_tables import score_table
from brainrdl.studies.reports.methods import ABOUT_SCORES, SCORES, fit_arm_name
from brainrdl.studies.reports.page import Page, Picture, Section, Table, present, render, write_page
from brainrdl.studies.reports.settings import head_choice_table
from brainrdl.studies.reports.words import capital, count


def card_figure(card: Card) -> Figure:
    """Draw the scores of a card's layers, controls and heads as dots."""
    return score_dots(
        card.summary,
        scores=SCORES,
        arms={arm: fit_arm_name(arm) for arm in card.groups},
        groups=dict(card.groups),
        label=METHODS[card.options.method],
    )


def write_card(
    card: Card, folder: str | Path, *, title: str = "Model card", notes: Sequence[str] = (), weights: str = ""
) -> list[Path]:
    """Write a card's files.

    Parameters
    ----------
    card : Card
        Scores, as `make_card` returned them.
    folder : path
        Place of the files; it is made if it is not there.
    title : str
        Title of the page.
    notes : sequence of str
        Paragraphs for the end of the page.
    weights : str
        Words for title, first line and figure where a reader must know them: `CardInputs.weights`.

    Returns
    -------
    list of Path
        ``scores.csv`` (a row per arm, fold and score), ``summary.csv`` (over folds, with intervals), ``choices.csv``
        (what the heads tried in inner splits; if there are any), ``card.png`` and ``card.html``, one page that needs no
        other file.

    Examples
    --------
    >>> from brainrdl.studies import make_card, write_card
    >>> write_card(make_card(features, ids, subjects), "card")  # doctest: +SKIP
    [PosixPath('card/scores.csv'), PosixPath('card/summary.csv'), ..., PosixPath('card/card.html')]
    """
    folder = Path(folder)
    tables = {"scores.csv": card.scores, "summary.csv": card.summary}
    # a card without heads chose nothing
    tables |= {"choices.csv": card.choices} if len(card.choices) else {}
    for name, table in tables.items():
        with atomic_path(folder / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    figure = card_figure(card)
    if weights:
        title = f"{title} ({weights})"
        # a title of the figure would be drawn over the legend above its panels
        figure.legends[0].set_title(capital(weights), prop=FontProperties(size=FONT + 1))
    with atomic_path(folder / "card.png") as temporary:
        temporary.write_bytes(render(figure, "png"))
    scored = {SCORES[score]: ABOUT_SCORES[score] for score in SCORES if (card.summary["score"] == score).any()}
    choices = [head_choice_table(card.choices)] if len(card.choices) else []
    page = Page(
        title=title,
        created="",  # a card holds nothing that depends on the day
        headline="",
        summary=(
            f"{capital(weights)}{'. ' * bool(weights)}"
            "Comparison of each layer of the network, controls and heads with the measured RDMs, on held-out stimuli. "
            f"{'; '.join(f'{capital(name)}: {about}' for name, about in scored.items())}. Each score is compared "
            "with its own noise ceiling."
        ),
        findings=(),
        sections=present(
            [
                Section("scores", "Scores on held-out stimuli", (*_scores(card, figure), *choices, *_dropped(card))),
                Section("statistics", "Statistics", ()),
            ]
        ),
        notes=tuple(notes),
    )
    words = {
        "metric": card.options.metric,
        "heads": [fit_arm_name(head) for head in card.options.heads],
        "mixed": MIXTURE in card.groups,
    }
    write_page(page, folder / "card.html", "card.html.jinja", words)
    return [folder / name for name in (*tables, "card.png", "card.html")]


def _scores(card: Card, figure: Figure) -> Iterator[Table | Picture]:
    # all rows have the same subjects, folds and stimuli
    first = card.summary.iloc[0]
    counts = [count(int(first[f"n_{noun}s"]), noun) for noun in ("subject", "fold")]
    setting = f"{', '.join(counts)}, {first['n_stimuli']:.0f} stimuli, {METHODS[card.options.method]}"
    unit = interval_unit(card.summary)
    yield Picture(
        "card",
        figure,
        "Dot plot of the scores of layers, controls and heads; the numbers are those of the table.",
        f"Scores on held-out stimuli ({setting}). {unit} Bands: noise ceilings, lower to upper bound, for the "
        "same pairs and subjects, after the same controls were removed.",
    )
    yield score_table(
        card.summary.assign(task_error=float("nan")),  # nothing was trained on a task
        f"Scores on held-out stimuli: {setting}",
        f"{unit} A dash: the model is itself a control, or does not vary on a split's held-out stimuli.",
    )


def _dropped(card: Card) -> Iterator[Table]:
    rows = [(split, ", ".join(map(fit_arm_name, names))) for split, names in card.dropped.items()]
    if rows:
        yield Table("Controls that are constant on held-out pairs", ("split", "omitted from the partial score"), rows)

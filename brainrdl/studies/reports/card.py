"""A card as files: a table, its figure, and a page with both."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.figure import Figure

from brainrdl.files import atomic_path
from brainrdl.plots import score_dots
from brainrdl.studies.card import MIXTURE, Card, chosen_setting
from brainrdl.studies.reports.fit_findings import interval_unit
from brainrdl.studies.reports.fit_names import ABOUT_SCORES, METHODS, SCORES, arm_name
from brainrdl.studies.reports.fit_tables import score_table
from brainrdl.studies.reports.page import environment
from brainrdl.studies.reports.paper_figures import render
from brainrdl.studies.reports.paper_printed import Table
from brainrdl.studies.reports.paper_sections import Picture
from brainrdl.studies.reports.words import count


def card_figure(card: Card) -> Figure:
    """Draw the figure of a card.

    Parameters
    ----------
    card : Card
        What `make_card` returned.

    Returns
    -------
    Figure
    """
    return score_dots(
        card.summary,
        scores=SCORES,
        arms={arm: arm_name(arm) for arm in card.groups},
        groups=dict(card.groups),
        label=METHODS[card.options.method],
    )


def write_card(card: Card, folder: str | Path, *, title: str = "Model card", notes: Sequence[str] = ()) -> list[Path]:
    """Write a card's files.

    Parameters
    ----------
    card : Card
        What `make_card` returned.
    folder : path
        Where they go; it is made if it is not there.
    title : str
        Of the page.
    notes : sequence of str
        Stand at the end of the page.

    Returns
    -------
    list of Path
        ``scores.csv`` (a row per arm, fold and score), ``summary.csv`` (over folds, with intervals), ``choices.csv``
        (what the heads tried in inner splits; if there are any), ``card.png`` and ``card.html``, one page that needs no
        other file.
    """
    folder = Path(folder)
    tables = {"scores.csv": card.scores, "summary.csv": card.summary}
    tables |= {"choices.csv": card.choices} if len(card.choices) else {}
    for name, table in tables.items():
        with atomic_path(folder / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    figure = card_figure(card)
    with atomic_path(folder / "card.png") as temporary:
        temporary.write_bytes(render(figure, "png"))
    first = card.summary.iloc[0]
    counts = [count(int(first[f"n_{noun}s"]), noun) for noun in ("subject", "fold")]
    setting = f"{', '.join(counts)}, {first['n_stimuli']:.0f} stimuli, {METHODS[card.options.method]}"
    unit = interval_unit(card.summary)
    items = [
        Picture(
            "card",
            figure,
            "Dot plot of the scores of layers, controls and heads; the numbers are those of the table.",
            f"Scores on held-out stimuli ({setting}). {unit} Bands: noise ceilings, lower to upper bound, of the same "
            "pairs and subjects and after the same removal.",
        ),
        score_table(
            card.summary.assign(arm=[arm_name(arm) for arm in card.summary["arm"]], task_error=float("nan")),
            f"Scores on held-out stimuli: {setting}",
            f"{unit} A dash: the row is made of what is removed.",
        ),
        *_chosen(card),
        *_dropped(card),
    ]
    with TemporaryDirectory() as figures:  # card.png is the figure that is left
        page = (
            environment(Path(__file__).parent, Path(figures))
            .get_template("card.html.jinja")
            .render(
                title=title,
                items=items,
                scores={
                    SCORES[score]: ABOUT_SCORES[score] for score in SCORES if (card.summary["score"] == score).any()
                },
                metric=card.options.metric,
                heads=[arm_name(head) for head in card.options.heads],
                mixed=MIXTURE in card.groups,
                notes=list(notes),
            )
        )
    with atomic_path(folder / "card.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return [folder / name for name in (*tables, "card.png", "card.html")]


def _chosen(card: Card) -> list[Table]:
    if card.choices.empty:
        return []
    by = ["split", "arm", "layer", "setting", "steps"]
    means = card.choices[card.choices["chosen"]].groupby(by, sort=False)["value"].mean().reset_index()
    rows = tuple(
        (
            (arm_name(str(line["arm"])),),
            (str(line["split"]),),
            (str(line["layer"]),),
            (chosen_setting({str(key): value for key, value in line.items()}),),
            (f"{line['value']:.3f}".replace("-", "−"),),
        )
        for line in means.to_dict("records")
    )
    note = "Chosen by the mean score on the held-out stimuli of inner folds, within the training stimuli of the split."
    return [
        Table("What the heads chose", ("head", "split", "layer", "setting", "inner score"), rows, note, folded=True)
    ]


def _dropped(card: Card) -> list[Table]:
    rows = tuple(((split,), (", ".join(map(arm_name, names)),)) for split, names in card.dropped.items())
    caption = "Controls that are constant on held-out pairs"
    return [Table(caption, ("split", "dropped from the partial score"), rows)] if rows else []

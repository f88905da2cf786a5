"""The page of the metric's Space: a table of codes in, values out."""

import json
from pathlib import Path

import evaluate
import gradio as gr

from concepthash_hf.metrics.space_tables import filled_columns

HERE = Path(__file__).parent
COLUMNS = ["predictions", "references", "roles"]
EXAMPLE = [
    ["[0, 0]", 7, "database"],
    ["[0, 1]", 3, "database"],
    ["[0, 3]", 7, "database"],
    ["[0, 0]", 7, "query"],
]


def compute(rows: list[list], ties: str) -> dict:
    """Measure the codes in the table."""
    metric = evaluate.load(str(HERE / "concepthash_retrieval.py"))
    try:
        codes, labels, roles = filled_columns(rows, COLUMNS)
        return metric.compute(
            predictions=[json.loads(code) for code in codes],
            references=[int(label) for label in labels],
            roles=roles,
            ties=ties,
        )
    except ValueError as error:
        raise gr.Error(str(error)) from error


demo = gr.Interface(
    fn=compute,
    inputs=[
        gr.Dataframe(
            EXAMPLE,
            headers=COLUMNS,
            datatype=["str", "number", "str"],
            type="array",
            label="Codes as bytes, labels, and what each item is (query, database or both)",
        ),
        gr.Dropdown(["expected", "stable", "optimistic", "pessimistic"], value="expected", label="Ties"),
    ],
    outputs=gr.JSON(label="Values"),
    title="ConceptHash retrieval",
    article=(HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2],
    api_name="compute",
)

if __name__ == "__main__":
    demo.launch()

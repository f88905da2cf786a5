"""The page of the measurement's Space: a table of codes in, values out."""

import json
from pathlib import Path

import evaluate
import gradio as gr

from concepthash_hf.metrics.space_tables import filled_columns

HERE = Path(__file__).parent
COLUMNS = ["predictions", "references"]
EXAMPLE = [["[0]", 0], ["[1]", 0], ["[3]", 1], ["[35]", 1]]


def compute(rows: list[list], num_bits: float, num_concepts: float) -> dict:
    """Measure the codes in the table."""
    measurement = evaluate.load(str(HERE / "concepthash_code_quality.py"))
    try:
        codes, labels = filled_columns(rows, COLUMNS)
        return measurement.compute(
            predictions=[json.loads(code) for code in codes],
            references=[int(label) for label in labels],
            num_bits=int(num_bits),
            num_concepts=int(num_concepts),
        )
    except ValueError as error:
        raise gr.Error(str(error)) from error


demo = gr.Interface(
    fn=compute,
    inputs=[
        gr.Dataframe(
            EXAMPLE,
            headers=COLUMNS,
            datatype=["str", "number"],
            type="array",
            label="Codes as bytes, and labels",
        ),
        gr.Number(8, label="Bits", precision=0),
        gr.Number(2, label="Concepts", precision=0),
    ],
    outputs=gr.JSON(label="Values"),
    title="ConceptHash code quality",
    article=(HERE / "README.md").read_text(encoding="utf-8").split("---", 2)[2],
    api_name="compute",
)

if __name__ == "__main__":
    demo.launch()

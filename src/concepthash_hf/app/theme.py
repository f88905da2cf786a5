"""How gradio's own controls look; everything else is in `templates/page.css`."""

import gradio as gr

FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")


def theme() -> gr.themes.Base:
    """Quiet, so that the colours of concepts are the only ones; fonts of the system, so that nothing is fetched."""
    return gr.themes.Base(
        primary_hue="slate", secondary_hue="slate", neutral_hue="slate", font=FONT, radius_size="lg"
    ).set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#12151b",
        block_background_fill="transparent",
        block_border_width="0px",
        block_shadow="none",
        button_primary_background_fill="#1b1f27",
        button_primary_background_fill_hover="#343b48",
        button_primary_background_fill_dark="#e9ecf1",
        button_primary_background_fill_hover_dark="#ffffff",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#12151b",
        input_background_fill="#f6f7f9",
        input_background_fill_dark="#12151b",
        input_border_width="1px",
        input_border_color="#e3e6ec",
        input_border_color_dark="#2e3440",
        slider_color="#667085",
    )

"""Models as the page asks them, wherever they run. No Gradio here."""

"""The page's parts, in Gradio."""

"""What visitors see of a result: pictures, tables, files. No Gradio here."""

"""The recorded final bits of short runs, to notice changes of the code that change them."""

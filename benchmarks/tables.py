"""Tables in Markdown, printed row by row as they are measured."""


def print_header(*columns: str) -> None:
    """The names of the columns, and the rule below them."""
    print_row(*columns)
    print("|" + " --- |" * len(columns), flush=True)


def print_row(*cells: object) -> None:
    """One row; empty cells are "": what was not measured."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)

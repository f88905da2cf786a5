"""Templates of HTML pages: everything that is put into them is shown as text."""

import jinja2


def html_environment(package: str) -> jinja2.Environment:
    """The templates in the folder `templates` of a package; a name that is not given is an error.

    Args:
        package: its dotted name.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

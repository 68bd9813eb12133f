"""Films of agents, from _static/films (made by benchmark/films.py):

    ```{film} ppo-HalfCheetah-v4
    The caption.
    ```

Nothing but the still is loaded until the film is seen; site.js then plays it, unless the reader has
asked for less motion.
"""

from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).parents[1] / "_static" / "films"


class Film(SphinxDirective):
    required_arguments = 1
    has_content = True

    def run(self):
        name = self.arguments[0]
        if not (FOLDER / f"{name}.mp4").is_file():
            raise self.error(f"there is no film {name}; benchmark/films.py makes it")
        root = "../" * self.env.docname.count("/")
        file = f"{root}_static/films/{name}"
        caption = self.parse_content_to_nodes()
        label = escape(" ".join(node.astext() for node in caption))
        video = (
            f'<figure class="film"><video src="{file}.mp4" poster="{file}.jpg" muted loop '
            f'playsinline controls preload="none" aria-label="{label}"></video><figcaption>'
        )
        end = nodes.raw("", "</figcaption></figure>", format="html")
        return [nodes.raw("", video, format="html"), *caption, end]


def setup(app):
    app.add_directive("film", Film)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

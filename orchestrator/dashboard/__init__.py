"""The dashboard: web pages about runs, made by the server and kept up to date in the browser.

How to add a page:

1. ``pages/NAME.py`` has functions that take a Starlette ``Request`` and return a response. They are
   plain functions, which run in threads. ``site_of(request)`` returns the ``Site``.
   ``with site.read() as session`` opens a short read-only transaction: read everything, close it,
   and only then render. ``site.page(request, "NAME.html", **values)`` renders a template. The
   module ends with ``ROUTES``, which ``app.py`` lists. If the page belongs in the navigation, add a
   line to ``NAVIGATION`` in ``app.py``.
2. ``templates/NAME.html`` extends ``base.html`` and fills the blocks ``title`` and ``main``. Values
   are escaped. There is no ``style`` attribute, no inline script and no ``|safe``: the browser
   refuses the first two. Show proportions with ``<meter>`` or with attributes of SVG.
3. View state (filters, sorting, zoom) is in the URL: links, and forms with ``method="get"``.
4. Pages stay current. ``{% block topics %}run-12 fleet{% endblock %}`` names topics of
   ``hub.py``, separated by spaces: ``runs``, ``run-ID``, ``fleet``. When a topic changes, the
   browser gets the same URL again and updates the elements of ``<main>`` that differ, at most once
   a second and only in a visible tab. Give rows an ``id``, so that the update recognises them. An
   element with ``data-keep`` is left alone. To add a topic, add a function to ``WATCHED`` in
   ``hub.py``.
5. A curve is ``{{ chart("KEY", source, "heading") }}`` from ``macros.html``. The address ``source``
   returns the JSON of ``charts.py``: all series of a chart on one grid of x, at most some hundred
   points, aggregated by the database. ``static/chart.js`` draws it with uPlot, and adds a table of
   the same numbers for keyboards and screen readers.
6. Scripts are ES modules in ``static/``; ``{% block scripts %}`` loads a page's own. Colours are
   the custom properties at the top of ``static/base.css``, which have a light and a dark value.
7. An action is a POST route with ``@action`` (``actions.py``): it requires a sign-in and the
   form's token: ``<input type="hidden" name="token" value="{{ form_token() }}">``. Show
   actions only ``{% if can_act %}``.
8. Tests: the fixtures ``served`` (a dashboard in this process, over a database of the test) and
   ``browser`` (one headless Chromium per file) of ``tests/dashboard.py``. ``check_page`` opens a
   page in both colour schemes and at 360 px, and runs axe.
"""

"""A store's sessions as one HTML file, for a browser without a network.

``gather`` reads a store into the models of ``views``, ``timeline`` lays out a session's history,
and ``render`` makes the file of them. Only ``render`` needs jinja2, the extra ``report``.
"""

"""A Dash app: a page with a field, and a text that follows it."""

from dash import Dash, Input, Output, dcc, html

dash = Dash(__name__)
dash.layout = html.Div([dcc.Input(id="field", value="x"), html.Div(id="text")])


@dash.callback(Output("text", "children"), Input("field", "value"))
def follow(value):
    return f"you wrote {value}"


application = dash.server

"""A Flask app as its users write it."""

import time

from flask import (
    Flask,
    Response,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from hornbeam_erlang import state_incr

application = app = Flask(__name__)
app.secret_key = "of a test"


@app.get("/items/<name>")
def item(name):
    return f"{name} {url_for('item', name=name)} {request.args.get('q', '')}"


@app.post("/form")
def form():
    return {"form": request.form, "files": {k: len(v.read()) for k, v in request.files.items()}}


@app.post("/json")
def echo_json():
    return request.json


@app.get("/visits")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


@app.get("/old")
def old():
    return redirect(url_for("item", name="new"))


@app.get("/file")
def file():
    return send_file(__file__, mimetype="text/plain", conditional=True)


@app.get("/stream")
def stream():
    def parts():
        for number in range(3):
            yield f"{number} {request.path}\n"
            time.sleep(0.01)

    return Response(stream_with_context(parts()), mimetype="text/plain")


@app.get("/fails")
def fails():
    raise KeyError("the app's own")


@app.get("/counts")
def counts():
    return str(state_incr(request.args["key"]))


@app.get("/user/<path:where>")
def where(where):
    return {
        "where": where,
        "root": request.root_path,
        "scheme": request.scheme,
        "address": request.remote_addr,
        "host": request.host,
    }


def create_app():
    return app

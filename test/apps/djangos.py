"""A Django project in one file, as WSGI."""

from pathlib import Path

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of a test",
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    FILE_UPLOAD_MAX_MEMORY_SIZE=65536,
)
django.setup()


def item(request, name):
    return HttpResponse(f"{name} {reverse('item', args=[name])} {request.GET.get('q', '')}")


def form(request):
    files = {key: sum(map(len, file.chunks())) for key, file in request.FILES.items()}
    return JsonResponse({"form": request.POST.dict(), "files": files})


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(request.session["visits"])


def stream(request):
    return StreamingHttpResponse(f"{number}\n" for number in range(3))


def file(request):
    return FileResponse(Path(__file__).open("rb"))


def fails(request):
    raise KeyError("the app's own")


urlpatterns = [
    path("items/<str:name>", item, name="item"),
    path("form", form),
    path("visits", visits),
    path("stream", stream),
    path("file", file),
    path("fails", fails),
]
application = get_wsgi_application()

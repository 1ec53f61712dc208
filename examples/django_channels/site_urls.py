"""The pages of the project."""

from chat import views
from django.contrib.auth.views import LoginView
from django.urls import path

urlpatterns = [
    path("", views.index),
    path("login/", LoginView.as_view(template_name="chat/login.html", next_page="/")),
    path("announce/<str:room>/", views.announce),
    path("chat/<str:room>/", views.room),
]

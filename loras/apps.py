from django.apps import AppConfig


class LorasConfig(AppConfig):
    name = "loras"

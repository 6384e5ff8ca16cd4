from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.generic import RedirectView

from accounts import views

app_name = "accounts"
urlpatterns = [
    path("login/", views.LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("setup/<str:token>/", views.setup, name="setup"),
    path("invite/<str:token>/", views.invite, name="invite"),
    path("account/", RedirectView.as_view(pattern_name="accounts:profile"), name="account"),
    path("account/profile/", views.profile, name="profile"),
    path("account/display/", views.display, name="display"),
    path("account/password/", views.PasswordView.as_view(), name="password"),
    path("account/sessions/end/", views.end_sessions, name="end-sessions"),
    path("account/tokens/<slug:key>/renew/", views.renew_token, name="renew-token"),
    path("account/tokens/<slug:key>/revoke/", views.revoke_token, name="revoke-token"),
    path("account/invitations/<uuid:pk>/revoke/", views.revoke_invitation, name="revoke-invitation"),
]

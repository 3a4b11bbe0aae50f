"""The messages that are sent to people, Chinese and English. They name no person and nothing of health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smart_auth.records import Account

if TYPE_CHECKING:
    from smart_auth.context import Auth

PHONE_PURPOSE: Final = "phone"
EMAIL_PURPOSE: Final = "email"

CODE: Final = "code"
TRIED_TO_REGISTER: Final = "tried-to-register"
LOCKED: Final = "locked"
PASSWORD_CHANGED: Final = "password-changed"  # noqa: S105 - a name of a notice
CONTACT_CHANGED: Final = "contact-changed"
SECOND_FACTOR_ON: Final = "second-factor-on"
SECOND_FACTOR_OFF: Final = "second-factor-off"
RECOVERY_CODE_USED: Final = "recovery-code-used"

TEXTS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    CODE: {
        "zh": ("验证码", "验证码 {code}，{minutes} 分钟内有效。请勿告诉任何人。"),
        "en": ("Your code", "Your code is {code}. It is valid for {minutes} minutes. Tell it to nobody."),
    },
    TRIED_TO_REGISTER: {
        "zh": ("注册提醒", "有人用您的号码注册账号，但您已有账号。若是您本人，请直接登录或重设密码。"),
        "en": (
            "You have an account",
            "Somebody tried to register with this number, which already has an account. If it was you, log in or set "
            "a new password.",
        ),
    },
    LOCKED: {
        "zh": ("账号已暂时锁定", "多次输入错误密码，您的账号已锁定 {minutes} 分钟。若非本人操作，请修改密码。"),
        "en": (
            "Your account is locked",
            "After several wrong passwords your account is locked for {minutes} minutes. If it was not you, set a new "
            "password.",
        ),
    },
    PASSWORD_CHANGED: {
        "zh": ("密码已修改", "您的账号密码已修改，所有设备已退出登录。若非本人操作，请立即重设密码。"),
        "en": (
            "Your password was changed",
            "The password of your account was changed and every device was logged out. If it was not you, set a new "
            "password at once.",
        ),
    },
    CONTACT_CHANGED: {
        "zh": ("联系方式已修改", "您账号的手机号或邮箱已修改。若非本人操作，请立即联系医院。"),
        "en": (
            "Your contact was changed",
            "The phone number or e-mail address of your account was changed. If it was not you, call the hospital.",
        ),
    },
    SECOND_FACTOR_ON: {
        "zh": ("已开启两步验证", "您的账号已开启两步验证。若非本人操作，请立即联系医院。"),
        "en": (
            "Second factor on",
            "A second factor was set up for your account. If it was not you, call the hospital.",
        ),
    },
    SECOND_FACTOR_OFF: {
        "zh": ("已关闭两步验证", "您的账号已关闭两步验证。若非本人操作，请立即联系医院。"),
        "en": (
            "Second factor off",
            "The second factor of your account was removed. If it was not you, call the hospital.",
        ),
    },
    RECOVERY_CODE_USED: {
        "zh": ("恢复码已使用", "您的账号刚用一个恢复码登录。若非本人操作，请立即修改密码。"),
        "en": (
            "Recovery code used",
            "A recovery code of your account was just used. If it was not you, set a new password.",
        ),
    },
}


def send(auth: Auth, to: str, notice: str, locale: str | None, **values: object) -> None:
    """Sends a notice to an E.164 number or an e-mail address in the clear."""
    language = "en" if (locale or auth.settings.default_locale).startswith("en") else "zh"
    subject, text = TEXTS[notice][language]
    auth.notifier.send("email" if "@" in to else "sms", to, subject, text.format(**values))


def tell(auth: Auth, account: Account, notice: str, **values: object) -> None:
    """Sends a notice to the holder of an account: to the verified phone, else the verified e-mail address, else
    nowhere.
    """
    to = contact(auth, account)
    if to is not None:
        send(auth, to, notice, account.locale, **values)


def contact(auth: Auth, account: Account) -> str | None:
    """The verified phone number, else the verified e-mail address, in the clear."""
    if account.phone is not None and account.phone_verified:
        return auth.vault.unseal(account.phone, PHONE_PURPOSE)
    if account.email is not None and account.email_verified:
        return auth.vault.unseal(account.email, EMAIL_PURPOSE)
    return None

"""The `hestia` command line. Every command takes every setting as a flag, and shows an example in its --help."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hestia import __version__
from hestia.settings import SETTINGS, Settings, SettingsError, as_text, load

Command = Callable[..., Any]


class Group(click.Group):
    """Turns what an operator can do something about into one line and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException:
            raise
        except BrokenPipeError:
            raise
        except Exception as error:
            sentence = explained(error)
            if sentence is None:
                raise
            raise click.ClickException(sentence) from None


def explained(error: Exception) -> str | None:
    """One sentence about an error that is not a fault of this program; None for a fault."""
    # Drivers are recognized by name: they are imported only by the store that uses them.
    origin = type(error).__module__.partition(".")[0]
    name = type(error).__name__
    if isinstance(error, SettingsError):
        return str(error)
    if name in ("UnusableStore", "UnsuitableServer", "WrongIndexes"):
        return str(error)
    if name == "Busy":
        return "The store does not answer, or is busy. When it is back, repeat this command: it goes on from there."
    if origin == "pymongo":
        return f"MongoDB: {str(error).splitlines()[0][:300]}"
    if origin == "apsw":
        return f"SQLite: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return None


def with_settings(command: Command) -> Command:
    """Gives a command `settings`, from its flags, the environment and the file."""

    @functools.wraps(command)
    def run(config: Path | None, **arguments: Any) -> Any:
        flags = {setting.field: arguments.pop("set_" + setting.field) for setting in SETTINGS}
        return command(load(flags, file=config), **arguments)

    for setting in reversed(SETTINGS):
        run = click.option(
            setting.flag, "set_" + setting.field, metavar="VALUE", help=f"{setting.help} [{setting.name}]"
        )(run)
    return click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="settings file (TOML)")(run)


def command(name: str | None = None, *, example: str) -> Callable[[Command], click.Command]:
    """A command with settings, and an example at the end of its help."""

    def wrap(function: Command) -> click.Command:
        return main.command(name, epilog=f"Example: {example}", context_settings={"max_content_width": 110})(
            with_settings(function)
        )

    return wrap


@click.group(cls=Group, epilog="Example: hestia serve --port 8080")
@click.version_option(__version__, prog_name="hestia")
def main() -> None:
    """Hestia: a FHIR R4 health data server."""


@command(example="hestia serve --port 8080 --store mongodb://127.0.0.1:27017/hestia?replicaSet=rs0")
def serve(settings: Settings) -> None:
    """Serve the FHIR API and the pages. Loads the demo hospital at the first start (HESTIA_DEMO)."""
    from hestia.serve import run

    run(settings)


@command(example="hestia config --port 9000")
def config(settings: Settings) -> None:
    """List every setting with its value and where that came from."""
    for setting in SETTINGS:
        value = as_text(getattr(settings, setting.field))
        shown = _without_password(value) if setting.field == "store" else value
        if setting.secret and value:
            shown = "(set)"
        click.echo(f"{setting.name:<22}{shown:<44}  ({settings.source[setting.field]})")
        click.echo(f"{'':<22}{setting.help}")


def _without_password(uri: str) -> str:
    head, at, tail = uri.rpartition("@")
    if not at or "://" not in head:
        return uri
    scheme, _, login = head.partition("://")
    return f"{scheme}://{login.partition(':')[0]}:***@{tail}"


REFUSED = 3
"""Exit status of a load that refused something; 1 is an error, 2 a wrong command line."""


@command("load", example="hestia load patients/ vitals.ndjson.gz --overwrite")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--overwrite", is_flag=True, help="replace resources whose id is present already")
@click.option("--store-bundles", is_flag=True, help="store every Bundle as a resource, execute none")
@click.option(
    "--refused", type=click.Path(path_type=Path, dir_okay=False), help="file for what is refused, with the reason"
)
def load_command(
    settings: Settings, paths: tuple[Path, ...], overwrite: bool, store_bundles: bool, refused: Path | None
) -> None:
    """Load files and directories of Bundles, NDJSON and single resources, gzip or not.

    Transactions and batches are executed, once, however often the load is repeated; other Bundles are stored.
    Resources with an id are skipped when present. Status 3: something was refused.
    """
    from hestia.composition import opened
    from hestia.load import Loader, default_refused_file, find_files
    from hestia.progress import Progress

    files = find_files(paths)
    if not files:
        raise click.ClickException("There is no .json, .ndjson or .xml file (or .gz of one) there.")
    with opened(settings) as server, Progress("Loading", sum(path.stat().st_size for path in files)) as progress:
        loader = Loader(
            server,
            overwrite=overwrite,
            store_bundles=store_bundles,
            refused_file=refused or default_refused_file(settings.data),
            progress=progress,
        )
        loader.files(files)
    click.echo(loader.report.sentence())
    sys.exit(REFUSED if loader.report.refused else 0)


@command("export", example="hestia export out/ --type Patient --type Observation")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--type", "types", multiple=True, help="only this resource type; repeatable")
@click.option("--gzip", "compress", is_flag=True, help="write .ndjson.gz")
def export_command(settings: Settings, directory: Path, types: tuple[str, ...], compress: bool) -> None:
    """Write the current resources as NDJSON, one file per type; `hestia load DIRECTORY` reads them again.

    AuditEvents, which belong to this store alone, only with --type AuditEvent.
    """
    from fhir_server.resources.types import TYPE_SET
    from hestia.composition import opened
    from hestia.export import export

    unknown = sorted(set(types) - TYPE_SET)
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: no resource type of R4.", param_hint="--type")
    with opened(settings, create=False) as server:
        number = export(server.store, directory, types, compress, server.sealer)
    click.echo(f"{number:,} resources written to {directory}.")


@command("seed", example="hestia seed --patients 60 --to bundles/")
@click.option("--patients", default=60, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--random", "random_seed", default=20260101, show_default=True, help="same number, same data")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="write Bundles there instead of loading them",
)
def seed_command(settings: Settings, patients: int, random_seed: int, directory: Path | None) -> None:
    """Generate the demo hospital: load it into the store, or write its Bundles. Status 3: something was refused."""
    import seed
    from hestia.composition import opened
    from hestia.load import Loader, default_refused_file
    from hestia.progress import Progress

    generated = seed.bundles(patients=patients, seed=random_seed)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        number = 0
        for number, bundle in enumerate(generated, 1):
            (directory / f"{number:04d}.json").write_bytes(seed.encode(bundle))
        click.echo(f"{number} Bundles written to {directory}.")
        return
    with opened(settings) as server, Progress("Demo hospital", None) as progress:
        loader = Loader(server, refused_file=default_refused_file(settings.data), progress=progress)
        for bundle in generated:
            loader.bundle_bytes(seed.encode(bundle), "seed")
    click.echo(loader.report.sentence())
    sys.exit(REFUSED if loader.report.refused else 0)


@command(example="hestia reindex --timezone Asia/Shanghai")
def reindex(settings: Settings) -> None:
    """Extract all index entries anew, online: after a change of HESTIA_TIMEZONE, or to put SearchParameters in force.

    The zone and the word index are those of the settings; servers that run with others have to be started again.
    """
    from hestia.composition import opened
    from hestia.maintain import reindex_all

    with opened(settings, must_exist=True, decide=True) as server:
        number = reindex_all(server)
    click.echo(f"{number:,} resources indexed anew.")


@command(example="hestia backup backups/2026-11-24.db")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def backup(settings: Settings, target: Path) -> None:
    """Copy the whole store, also a live one, into one new SQLite file, whatever the store is."""
    from hestia.maintain import backup_to

    click.echo(f"{backup_to(settings, target):,} versions saved in {target}.")


@command(example="hestia restore backups/2026-11-24.db --store mongodb://127.0.0.1:27017/hestia")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def restore(settings: Settings, source: Path) -> None:
    """Copy a backup into the configured store, which must be empty (or an interrupted restore of the same backup)."""
    from hestia.maintain import copy

    click.echo(f"{copy(settings, f'sqlite:///{source}', settings.store):,} versions restored.")


@command("copy", example="hestia copy mongodb://127.0.0.1:27017/hestia   (from HESTIA_STORE to there)")
@click.argument("target")
def copy_command(settings: Settings, target: str) -> None:
    """Copy everything from HESTIA_STORE to an empty store, also while it is written to: embedded to MongoDB and back.

    A copy that was interrupted is repeated: what is there already is passed over.
    """
    from hestia.maintain import copy

    load({"store": target}, {})  # refuses what is not a store
    click.echo(f"{copy(settings, settings.store, target):,} versions copied.")


@command(example="hestia check --store sqlite:///var/hestia.db")
def check(settings: Settings) -> None:
    """Verify the store: versions without gaps, current equals newest, index entries equal re-extraction, library.

    Status 1: there are findings.
    """
    from hestia.maintain import check_store

    findings = check_store(settings)
    for finding in findings:
        click.echo(f"- {finding}")
    if findings:
        click.echo(f"{len(findings)} finding{'s' if len(findings) > 1 else ''}.")
        sys.exit(1)
    click.echo("The store is sound.")


@command(example="hestia token --as doctor-he")
@click.option("--as", "name", required=True, help="user name of a demo account, or client_id of a demo back end")
@click.option("--role", help="one of the account's roles; default the first")
@click.option("--patient", help="id of the Patient to act for, of those the account may act for")
@click.option("--scope", help="scopes of the token; default all that the role may ask for")
def token(settings: Settings, name: str, role: str | None, patient: str | None, scope: str | None) -> None:
    """Print an access token of a demo account, for curl. Real people get theirs by logging in."""
    from hestia import access

    made, remarks = access.token(settings, name, role, patient, scope)
    for remark in remarks:
        click.echo(remark, err=True)
    click.echo(made)


@command(example="hestia demo --json")
@click.option("--json", "as_json", is_flag=True, help="everything that a conformance tool needs, passwords included")
@click.option("--remove", is_flag=True, help="remove every demo account and client")
def demo(settings: Settings, as_json: bool, remove: bool) -> None:
    """Show who can log in to the demo hospital, and which apps it knows."""
    import json

    from hestia import access

    if remove:
        click.echo(f"{access.remove_demo(settings)} demo accounts and clients removed.")
        return
    found = access.describe_demo(settings)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for account in found["accounts"]:
        click.echo(
            f"{account['username']:<18}{account['password']:<20}{', '.join(account['roles']):<24}{account['name']}"
        )
    for client in found["clients"]:
        click.echo(f"{client['client_id']:<22}{client['type']:<26}{client['name']}")


@command(example="hestia account reset admin")
@click.argument("action", type=click.Choice(["list", "reset", "unlock"]))
@click.argument("name", required=False)
def account(settings: Settings, action: str, name: str | None) -> None:
    """List accounts; give one a new one-time password (reset), which ends its sessions; or unlock it."""
    from hestia import access

    for line in access.accounts(settings, action, name):
        click.echo(line)


@command(example="hestia client approve 4f6c0d")
@click.argument("action", type=click.Choice(["list", "approve", "disable"]))
@click.argument("client_id", required=False)
def client(settings: Settings, action: str, client_id: str | None) -> None:
    """List registered apps; approve one that waits for it; or disable one, which ends all its access at once."""
    from hestia import access

    for line in access.clients(settings, action, client_id):
        click.echo(line)


@command("key", example="hestia key status")
@click.argument("action", type=click.Choice(["status", "reseal"]))
def key(settings: Settings, action: str) -> None:
    """Show what each master key still seals (status), or seal accounts, signing keys and the like under the first one
    (reseal), while servers run. docs/sealing.md says how a key is replaced.
    """
    from hestia import keys

    for line in keys.status(settings) if action == "status" else keys.reseal(settings):
        click.echo(line)


@command(example="hestia audit verify")
@click.argument("action", type=click.Choice(["verify"]))
def audit(settings: Settings, action: str) -> None:
    """Verify the audit: every entry there, none changed, chains and anchors whole. Status 1: there are findings."""
    from hestia.audit import verify_store

    if not verify_store(settings):
        sys.exit(1)


if __name__ == "__main__":
    main()

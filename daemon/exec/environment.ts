/**
 * Which names of the environment a guarded command may get: a list of what passes, so that what nobody has thought of
 * does not. PATH, HOME and the like are set by whoever runs the command, never taken over.
 */
const PASSES: ReadonlySet<string> = new Set(
  "LANG LANGUAGE TZ TERM COLORTERM NO_COLOR FORCE_COLOR CLICOLOR CLICOLOR_FORCE COLUMNS LINES CI SOURCE_DATE_EPOCH NODE_ENV RAILS_ENV RACK_ENV APP_ENV DEBUG VERBOSE LOG_LEVEL RUST_LOG RUST_BACKTRACE GOOS GOARCH CGO_ENABLED CARGO_TERM_COLOR DEBIAN_FRONTEND PORT HOST PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE".split(
    " ",
  ),
);
const LOCALE =
  /^LC_(?:ALL|ADDRESS|COLLATE|CTYPE|IDENTIFICATION|MEASUREMENT|MESSAGES|MONETARY|NAME|NUMERIC|PAPER|TELEPHONE|TIME)$/;

/** What makes a program load, run, trust or send something else. No profile can list one of these. */
const NEVER: readonly RegExp[] = [
  /^(?:LD|DYLD|GLIBC|MALLOC|GCONV|LOCPATH|NLSPATH|GETCONF|RES|HOSTALIASES|LOCALDOMAIN)(?:_|$)/,
  /^(?:BASH|ZSH|KSH|ENV$|SHELL$|SHELLOPTS$|BASHOPTS$|IFS$|PS[0-4]$|PROMPT|CDPATH$|GLOBIGNORE$|FPATH$|ZDOTDIR$|FCEDIT$|HIST|INPUTRC$|POSIXLY_CORRECT$|CHILD_MAX$|EXECIGNORE$|TMOUT$|FIGNORE$|MAILPATH$|MAILCHECK$)/,
  /^(?:PATH|HOME|USER|LOGNAME|PWD|OLDPWD|TMPDIR|TMP|TEMP|XDG_.*)$/,
  /^(?:NODE|NPM|YARN|PNPM|BUN|DENO|COREPACK)_(?!ENV$)/i,
  /^(?:PYTHON(?!UNBUFFERED$|DONTWRITEBYTECODE$)|PERL|RUBY|GEM|BUNDLE|LUA|PHP|TCL|JAVA|_JAVA|JDK|MAVEN|GRADLE|ANT|SBT|CLASSPATH|R_|JULIA|GUILE|ERL|ELIXIR|PIP|UV_|POETRY|VIRTUAL_ENV|CONDA|DOTNET|COMPLUS|CORECLR|MONO|NUGET)/,
  /^(?:GIT|SSH|SVN|HG|GPG|RSYNC|CVS)(?:_|$)/,
  /^(?:GO(?!OS$|ARCH$)|CGO_(?!ENABLED$)|RUST(?!_LOG$|_BACKTRACE$)|CARGO(?!_TERM_COLOR$)|CC$|CXX$|CPP$|AR$|AS$|LD$|CFLAGS|CXXFLAGS|LDFLAGS|GCC|COMPILER_PATH|LIBRARY_PATH|CPATH|C_INCLUDE_PATH|CMAKE|MAKE|GNUMAKE|MFLAGS|PKG_CONFIG|CCACHE|DISTCC|LLVM|CLANG)/,
  /(?:EDITOR|VISUAL|PAGER|BROWSER|ASKPASS|LESSOPEN|LESSCLOSE|LESS|LESSKEY.*|MANOPT|MANPATH|MORE|GREP_OPTIONS|GREP_COLORS?|TAR_OPTIONS|GZIP|XZ_OPT|XZ_DEFAULTS|ZSTD_CLEVEL|UNZIP|ZIPOPT|VIMINIT|EXINIT|TERMINFO|TERMINFO_DIRS|TERMCAP|TERMPATH)$/,
  /^(?:HTTPS?|ALL|FTP|NO|RSYNC|SOCKS)_PROXY$/i,
  /^(?:CURL|SSL|REQUESTS|OPENSSL|WGET|AWS|AZURE|GOOGLE|GCLOUD|CLOUDSDK|KUBE|DOCKER|HELM|VAULT|TF_|TERRAFORM|ANSIBLE|CONSUL|NOMAD|GITHUB|GITLAB|GH_|PG|MYSQL|REDIS)/,
  /^(?:DISPLAY|WAYLAND|XAUTHORITY|DBUS|SYSTEMD|NOTIFY_SOCKET|LISTEN_|INVOCATION_ID|JOURNAL|SUDO|BOUNDARY|QT|GTK|GIO|GST|KRB5|GSSAPI)/,
  /(?:PRELOAD|_PATH|_OPTIONS|_OPTS|_FLAGS|_LOADER|_PLUGIN|_PLUGINS|_RC|_SOCK|_SOCKET|_WRAPPER|_COMMAND|_CMD|_SHELL)$/,
  /(?:SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|APIKEY|API_KEY|PRIVATE_KEY|ACCESS_KEY)/i,
];

/** What is to be said of a name. `listed` are the profile's own. */
export function judgeName(name: string, listed: ReadonlySet<string>): "passes" | "unlisted" | "never" {
  if (isNeverPassed(name)) return "never";
  return PASSES.has(name) || LOCALE.test(name) || listed.has(name) ? "passes" : "unlisted";
}

/** Whether a name can be in no profile's list: it is no name, or it makes programs do something else. */
export function isNeverPassed(name: string): boolean {
  return !/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name) || NEVER.some((one) => one.test(name));
}

/** The names that a command may get out of all there are, in the order they came. */
export function scrubEnvironment(names: readonly string[], listed: ReadonlySet<string>): readonly string[] {
  return names.filter((name) => judgeName(name, listed) === "passes");
}

package atoll.jshell;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import jdk.jshell.DeclarationSnippet;
import jdk.jshell.Diag;
import jdk.jshell.EvalException;
import jdk.jshell.ExpressionSnippet;
import jdk.jshell.JShell;
import jdk.jshell.JShellException;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis;
import jdk.jshell.UnresolvedReferenceException;

/** Cells of Java source, run by JShell in this process, with the imports of the `jshell` tool. */
final class Shell {
    private static final List<String> IMPORTS = List.of(
            "java.io", "java.math", "java.net", "java.nio.file", "java.util", "java.util.concurrent",
            "java.util.function", "java.util.prefs", "java.util.regex", "java.util.stream");

    private static final long INSIST_MS = 100;

    record Failure(String name, String message, String stack) {}

    /** At most one of the two is there. */
    record Outcome(String value, Failure failure) {}

    /** Where a snippet stands: cells are counted from 1, and so are their lines. */
    private record Place(int cell, int line) {}

    private final Map<String, Place> places = new HashMap<>();
    private JShell shell;
    private int cell;
    private boolean running;
    private boolean stopped;

    void open() {
        shell = JShell.builder()
                .executionEngine("local")
                .compilerOptions("--class-path", System.getProperty("java.class.path"), "-proc:none")
                .build();
        shell.addToClasspath(System.getProperty("java.class.path"));
        IMPORTS.forEach(name -> shell.eval("import " + name + ".*;"));
    }

    Outcome run(String source) {
        synchronized (this) {
            cell++;
            running = true;
            stopped = false;
        }
        try {
            return snippets(source);
        } finally {
            synchronized (this) {
                running = false;
                notifyAll();
            }
        }
    }

    /** Called by another thread than `run`. */
    synchronized void stop() {
        if (running && !stopped) {
            stopped = true;
            int wanted = cell;
            Thread insisting = new Thread(() -> insist(wanted), "stop");
            insisting.setDaemon(true);
            insisting.start();
        }
    }

    /** JShell stops what runs now: nothing when it is just about to start a snippet, or compiles it. */
    private synchronized void insist(int wanted) {
        try {
            while (running && cell == wanted) {
                shell.stop();
                wait(INSIST_MS);
            }
        } catch (InterruptedException end) {
            Thread.currentThread().interrupt();
        }
    }

    private synchronized boolean isStopped() {
        return stopped;
    }

    private Outcome snippets(String source) {
        SourceCodeAnalysis analysis = shell.sourceCodeAnalysis();
        List<Snippet> seen = new ArrayList<>();
        String value = null;
        for (String rest = source.stripLeading(); !rest.isEmpty(); ) {
            SourceCodeAnalysis.CompletionInfo info = analysis.analyzeCompletion(rest);
            if (info.completeness() == SourceCodeAnalysis.Completeness.EMPTY) {
                break; // comments
            }
            String snippet = info.completeness().isComplete() ? info.source() : rest;
            int line = 1 + lines(source.substring(0, source.length() - rest.length()));
            value = null;
            for (SnippetEvent event : isStopped() ? List.<SnippetEvent>of() : shell.eval(snippet)) {
                places.put(event.snippet().id(), places.getOrDefault(event.snippet().id(), new Place(cell, line)));
                if (event.causeSnippet() != null) {
                    continue; // something older, looked at again because of this one
                }
                seen.add(event.snippet());
                Failure failure = failure(event, snippet, line);
                if (failure != null && !isStopped()) {
                    return new Outcome(null, failure);
                }
                value = value(event);
            }
            if (isStopped()) {
                return new Outcome(null, new Failure("KeyboardInterrupt", "The cell was interrupted", ""));
            }
            rest = info.completeness().isComplete() ? info.remaining().stripLeading() : "";
        }
        seen.forEach(this::warn);
        return new Outcome(value, null);
    }

    private static String value(SnippetEvent event) {
        boolean shown = event.snippet() instanceof ExpressionSnippet
                || event.snippet().subKind() == Snippet.SubKind.TEMP_VAR_EXPRESSION_SUBKIND;
        return shown && event.value() != null && !event.value().isEmpty() ? event.value() : null;
    }

    private Failure failure(SnippetEvent event, String source, int line) {
        if (event.status() == Snippet.Status.REJECTED) {
            return rejected(event.snippet(), source, line);
        }
        if (event.exception() instanceof UnresolvedReferenceException unresolved) {
            DeclarationSnippet snippet = unresolved.getSnippet();
            String message = "`" + snippet.name() + "` needs " + missing(snippet);
            return new Failure("UnresolvedReferenceException", message, stack(unresolved));
        }
        if (event.exception() instanceof EvalException thrown) {
            String message = thrown.getMessage() == null ? "" : thrown.getMessage();
            return new Failure(thrown.getExceptionClassName(), message, chain(thrown));
        }
        return null;
    }

    private Failure rejected(Snippet snippet, String source, int line) {
        List<Diag> errors = shell.diagnostics(snippet).filter(Diag::isError).collect(Collectors.toList());
        if (errors.isEmpty()) {
            return new Failure("CompilationError", "The source is not complete", "");
        }
        StringBuilder report = new StringBuilder();
        for (Diag error : errors) {
            int position = (int) Math.max(0, Math.min(error.getPosition(), source.length()));
            int from = source.lastIndexOf('\n', position - 1) + 1;
            int to = source.indexOf('\n', position);
            int number = line + lines(source.substring(0, position));
            report.append("Line ").append(number).append(": ").append(error.getMessage(Locale.ROOT)).append('\n');
            report.append("    ").append(source, from, to < 0 ? source.length() : to).append('\n');
            report.append("    ").append(" ".repeat(position - from)).append("^\n");
        }
        return new Failure("CompilationError", errors.get(0).getMessage(Locale.ROOT), report.toString());
    }

    private void warn(Snippet snippet) {
        if (snippet instanceof DeclarationSnippet declaration
                && shell.status(snippet) == Snippet.Status.RECOVERABLE_NOT_DEFINED) {
            System.err.println("`" + declaration.name() + "` cannot be used yet, it needs " + missing(declaration));
            System.err.flush();
        }
    }

    private String missing(DeclarationSnippet snippet) {
        return shell.unresolvedDependencies(snippet).collect(Collectors.joining(", "));
    }

    private String chain(EvalException thrown) {
        StringBuilder report = new StringBuilder(stack(thrown));
        for (Throwable cause = thrown.getCause(); cause instanceof JShellException next; cause = cause.getCause()) {
            String name = next instanceof EvalException known ? known.getExceptionClassName() : next.getClass().getName();
            String message = next.getMessage() == null ? "" : ": " + next.getMessage();
            report.append("Caused by: ").append(name).append(message).append('\n').append(stack(next));
        }
        return report.toString();
    }

    private String stack(JShellException thrown) {
        StringBuilder report = new StringBuilder();
        for (StackTraceElement frame : thrown.getStackTrace()) {
            report.append("    at ").append(described(frame)).append('\n');
        }
        return report.toString();
    }

    /** JShell gives `#7` as the file of what stands in snippet 7, and the line within it. */
    private String described(StackTraceElement frame) {
        String file = frame.getFileName();
        Place place = file != null && file.startsWith("#") ? places.get(file.substring(1)) : null;
        if (place == null) {
            return frame.toString();
        }
        String within = frame.getClassName().isEmpty() ? "" : frame.getClassName() + ".";
        String method = frame.getMethodName().isEmpty() ? "" : within + frame.getMethodName() + " in ";
        return method + "cell " + place.cell + ", line " + (place.line + frame.getLineNumber() - 1);
    }

    private static int lines(String text) {
        return (int) text.chars().filter(letter -> letter == '\n').count();
    }
}

package atoll.jshell;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import sun.misc.Signal;

/**
 * The Java end of the Java kernel: java.py starts it with the numbers of two pipes and speaks to it in frames.
 *
 * <pre>
 *   frame    int size, then that many bytes: the kind (one letter), then texts, each as int size and UTF-8
 *   to us    E code                  run a cell
 *            S                       stop the cell that runs
 *   from us  Y                       ready
 *            O text, F text          printed on standard output, standard error; each write is a frame
 *            V text                  value of the cell's last expression
 *            X name message stack    the cell failed
 *            D                       the cell is over
 * </pre>
 *
 * Cells run in this process. When the other end goes away, so do we, whatever a cell does.
 */
public final class Main {
    private final OutputStream events;
    private final BlockingQueue<String> cells = new LinkedBlockingQueue<>();
    private final Shell shell = new Shell();

    private Main(OutputStream events) {
        this.events = events;
    }

    public static void main(String[] args) throws Exception {
        DataInputStream commands = new DataInputStream(new FileInputStream("/proc/self/fd/" + args[0]));
        Main main = new Main(new FileOutputStream("/proc/self/fd/" + args[1]));
        // An interrupt of the process group is for what cells have started; a cell of ours is stopped by `S`.
        Signal.handle(new Signal("INT"), signal -> {});
        System.getenv().forEach(System.getProperties()::putIfAbsent);
        System.setOut(main.new Printer('O'));
        System.setErr(main.new Printer('F'));
        Thread listener = new Thread(() -> main.listen(commands), "commands");
        listener.setDaemon(true);
        listener.start();
        main.serve();
    }

    private void serve() throws IOException, InterruptedException {
        shell.open();
        send('Y');
        while (true) {
            Shell.Outcome outcome = shell.run(cells.take());
            System.out.flush();
            System.err.flush();
            if (outcome.failure() != null) {
                Shell.Failure failure = outcome.failure();
                send('X', failure.name(), failure.message(), failure.stack());
            } else if (outcome.value() != null) {
                send('V', outcome.value());
            }
            send('D');
        }
    }

    private void listen(DataInputStream commands) {
        try {
            while (true) {
                byte[] frame = commands.readNBytes(commands.readInt());
                if (frame[0] == 'S') {
                    shell.stop();
                } else {
                    cells.add(new String(frame, 5, frame.length - 5, StandardCharsets.UTF_8));
                }
            }
        } catch (IOException | RuntimeException gone) {
            Runtime.getRuntime().halt(0);
        }
    }

    private void send(char kind, String... texts) throws IOException {
        byte[][] encoded = new byte[texts.length][];
        for (int number = 0; number < texts.length; number++) {
            encoded[number] = texts[number].getBytes(StandardCharsets.UTF_8);
        }
        frame(kind, encoded);
    }

    private void frame(char kind, byte[]... texts) throws IOException {
        int size = 1;
        for (byte[] text : texts) {
            size += 4 + text.length;
        }
        ByteArrayOutputStream whole = new ByteArrayOutputStream(4 + size);
        DataOutputStream out = new DataOutputStream(whole);
        out.writeInt(size);
        out.writeByte(kind);
        for (byte[] text : texts) {
            out.writeInt(text.length);
            out.write(text);
        }
        synchronized (events) {
            events.write(whole.toByteArray());
        }
    }

    /** A class of its own, so that `println` writes the text and the end of the line one after the other. */
    private final class Printer extends PrintStream {
        Printer(char kind) {
            super(new Frames(kind), true, StandardCharsets.UTF_8);
        }
    }

    private final class Frames extends OutputStream {
        private final char kind;

        Frames(char kind) {
            this.kind = kind;
        }

        @Override
        public void write(int octet) throws IOException {
            frame(kind, new byte[] {(byte) octet});
        }

        @Override
        public void write(byte[] octets, int from, int count) throws IOException {
            frame(kind, Arrays.copyOfRange(octets, from, from + count));
        }
    }
}

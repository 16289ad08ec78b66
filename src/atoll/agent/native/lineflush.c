/* Lines leave at once, although standard output is a pipe.
 *
 * Pre-loaded into the programs that the agent starts. The constructor makes `stdout` line-buffered, but only when
 * descriptor 1 is the very pipe that the agent reads (its device and inode number are in ATOLL_STDOUT), so that
 * `producer | consumer` and `program > file` keep their full buffers.
 *
 * No library is needed, so one object serves glibc and musl, and a program without either:
 *
 *     gcc -O2 -Wall -Wextra -shared -nostdlib -fPIC -fno-stack-protector -o lineflush.so lineflush.c
 *
 * `stdout` and `setvbuf` are weak: where they are missing nothing happens. The system call is our own because the
 * name `fstat` is not in every C library's dynamic symbols.
 */

#define WEAK __attribute__((weak, visibility("default")))

extern void *stdout WEAK;
extern char **environ WEAK;
extern int setvbuf(void *stream, char *buffer, int mode, unsigned long size) WEAK;

enum { LINE_BUFFERED = 1 }; /* _IOLBF in both C libraries */

struct status {
    unsigned long device;
    unsigned long inode;
    unsigned long rest[32]; /* room for the kernel's struct stat */
};

static long status_of(int fd, struct status *status) {
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(5L), "D"((long)fd), "S"(status) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x0 __asm__("x0") = fd;
    register long x1 __asm__("x1") = (long)status;
    register long x8 __asm__("x8") = 80;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x8) : "memory");
    return x0;
#else
#error "add this machine's fstat"
#endif
}

/* The text after `name` (which ends in '='), or 0. */
static const char *value_of(const char *entry, const char *name) {
    while (*name)
        if (*entry++ != *name++)
            return 0;
    return entry;
}

static const char *mark(void) {
    for (char **entry = environ; *entry; entry++) {
        const char *value = value_of(*entry, "ATOLL_STDOUT=");
        if (value)
            return value;
    }
    return 0;
}

static const char *number(const char *text, unsigned long *value) {
    for (*value = 0; *text >= '0' && *text <= '9'; text++)
        *value = *value * 10 + (unsigned long)(*text - '0');
    return text;
}

__attribute__((constructor)) static void flush_lines(void) {
    struct status status;
    unsigned long device, inode;

    if (!&environ || !environ || !&stdout || !stdout || !setvbuf)
        return;
    const char *text = mark();
    if (!text)
        return;
    text = number(text, &device);
    if (*text != ':' || *number(text + 1, &inode) != 0)
        return;
    if (status_of(1, &status) == 0 && status.device == device && status.inode == inode)
        setvbuf(stdout, 0, LINE_BUFFERED, 0);
}

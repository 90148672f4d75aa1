"""How a program that a test starts measures its own memory."""

# Python that gives MB. What `resource.getrusage` counts holds the size of whoever started the program, too.
PEAK_MB = "(int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) >> 10)"

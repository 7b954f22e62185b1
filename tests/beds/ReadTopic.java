// Reads a whole topic with Apache's own Java client and prints one JSON object a record: the view of
// the topic that shares no code with the bridge.
//
//   java -cp "$KAFKA_CLASSPATH" tests/beds/ReadTopic.java BOOTSTRAP TOPIC [--committed] [--count-only]
//
// All partitions, from the first offset to the end as it was when the program started. Reads
// uncommitted records too, unless --committed. `java_partition` is where Java's default partitioner
// puts the key (null without a key). --count-only prints {"count":n,"partitions":[n,...]} instead.
// Exits with 1 and a message if the topic does not exist or the end is not reached. It never joins a
// group, commits an offset or creates a topic.

import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class ReadTopic {
    private static final Duration POLL = Duration.ofMillis(200);
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    public static void main(String[] args) {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        Set<String> flags = new HashSet<>(List.of(args).subList(Math.min(2, args.length), args.length));
        boolean committed = flags.remove("--committed");
        boolean countOnly = flags.remove("--count-only");
        if (args.length < 2 || !flags.isEmpty()) {
            System.err.println("usage: ReadTopic BOOTSTRAP TOPIC [--committed] [--count-only]");
            System.exit(64);
        }
        PrintStream out = new PrintStream(
                new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16), false);
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings(args[0], committed))) {
            read(consumer, args[1], countOnly, out);
        } catch (RuntimeException failure) {
            out.flush();
            System.err.println("ReadTopic: " + failure);
            System.exit(1);
        }
        out.flush();
        if (out.checkError()) {
            System.err.println("ReadTopic: standard output could not be written");
            System.exit(1);
        }
    }

    private static Properties settings(String bootstrap, boolean committed) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("key.deserializer", ByteArrayDeserializer.class);
        settings.put("value.deserializer", ByteArrayDeserializer.class);
        settings.put("isolation.level", committed ? "read_committed" : "read_uncommitted");
        settings.put("enable.auto.commit", "false");
        settings.put("allow.auto.create.topics", "false");
        settings.put("max.poll.records", "5000");
        settings.put("fetch.max.wait.ms", "50");
        settings.put("default.api.timeout.ms", String.valueOf(PATIENCE.toMillis()));
        return settings;
    }

    private static void read(
            KafkaConsumer<byte[], byte[]> consumer, String topic, boolean countOnly, PrintStream out) {
        List<PartitionInfo> infos = consumer.partitionsFor(topic);
        if (infos == null || infos.isEmpty()) {
            throw new IllegalStateException("topic " + topic + " does not exist");
        }
        List<TopicPartition> open = new ArrayList<>();
        for (PartitionInfo info : infos) {
            open.add(new TopicPartition(topic, info.partition()));
        }
        int partitions = open.size();
        long[] counts = new long[partitions];
        Map<TopicPartition, Long> ends = consumer.endOffsets(open);
        consumer.assign(open);
        consumer.seekToBeginning(open);
        long progress = System.nanoTime();
        Map<TopicPartition, Long> before = new HashMap<>();
        StringBuilder line = new StringBuilder(2048);
        while (true) {
            // The position, not the last record, tells the end: transactions leave markers behind.
            List<TopicPartition> done = new ArrayList<>();
            for (TopicPartition partition : open) {
                long position = consumer.position(partition);
                if (!Long.valueOf(position).equals(before.put(partition, position))) {
                    progress = System.nanoTime();
                }
                if (position >= ends.get(partition)) {
                    done.add(partition);
                }
            }
            consumer.pause(done);
            open.removeAll(done);
            if (open.isEmpty()) {
                break;
            }
            if (System.nanoTime() - progress > PATIENCE.toNanos()) {
                throw new IllegalStateException("no progress for " + PATIENCE + " in " + open);
            }
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                if (record.offset() >= ends.get(new TopicPartition(topic, record.partition()))) {
                    continue;
                }
                counts[record.partition()]++;
                if (!countOnly) {
                    line.setLength(0);
                    render(line, record, partitions);
                    byte[] bytes = line.append('\n').toString().getBytes(StandardCharsets.UTF_8);
                    out.write(bytes, 0, bytes.length);
                }
            }
        }
        if (countOnly) {
            long total = 0;
            for (long count : counts) {
                total += count;
            }
            String each = java.util.Arrays.toString(counts).replace(" ", "");
            out.print("{\"count\":" + total + ",\"partitions\":" + each + "}\n");
        }
    }

    private static void render(
            StringBuilder line, ConsumerRecord<byte[], byte[]> record, int partitions) {
        line.append("{\"partition\":").append(record.partition());
        line.append(",\"offset\":").append(record.offset());
        line.append(",\"timestamp\":").append(record.timestamp());
        line.append(",\"key\":");
        text(line, record.key());
        line.append(",\"java_partition\":");
        if (record.key() == null) {
            line.append("null");
        } else {
            line.append(BuiltInPartitioner.partitionForKey(record.key(), partitions));
        }
        line.append(",\"headers\":{");
        String comma = "";
        for (Header header : record.headers()) {
            line.append(comma);
            text(line, header.key());
            line.append(':');
            text(line, header.value());
            comma = ",";
        }
        line.append("},\"value\":");
        text(line, record.value());
        line.append('}');
    }

    private static void text(StringBuilder line, byte[] bytes) {
        text(line, bytes == null ? null : new String(bytes, StandardCharsets.UTF_8));
    }

    private static void text(StringBuilder line, String text) {
        if (text == null) {
            line.append("null");
            return;
        }
        line.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            switch (c) {
                case '"' -> line.append("\\\"");
                case '\\' -> line.append("\\\\");
                case '\n' -> line.append("\\n");
                case '\r' -> line.append("\\r");
                case '\t' -> line.append("\\t");
                default -> {
                    if (c < 0x20) {
                        line.append(String.format("\\u%04x", (int) c));
                    } else {
                        line.append(c);
                    }
                }
            }
        }
        line.append('"');
    }
}

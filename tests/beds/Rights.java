// Grants and revokes rights (ACLs) by Apache's own Java client, which librdkafka's Rust client cannot.
//
//   java -cp "$KAFKA_CLASSPATH" tests/beds/Rights.java BOOTSTRAP grant|revoke USER RESOURCE OPERATION...
//
// RESOURCE is topic:NAME, group:NAME, transactional:ID or cluster; OPERATION a name of org.apache.kafka.common.acl, such
// as WRITE. Returns when every broker's answer is in; a broker acts on it a moment later. `revoke`
// removes exactly what `grant` gave. It changes nothing else, and exits with 1 and a message on failure.

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

public class Rights {
    public static void main(String[] args) {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        if (args.length < 5 || !List.of("grant", "revoke").contains(args[1])) {
            System.err.println("usage: Rights BOOTSTRAP grant|revoke USER RESOURCE OPERATION...");
            System.exit(64);
        }
        List<AclBinding> rights = new ArrayList<>();
        for (String operation : List.of(args).subList(4, args.length)) {
            rights.add(new AclBinding(resource(args[3]), new AccessControlEntry(
                    "User:" + args[2], "*", AclOperation.fromString(operation), AclPermissionType.ALLOW)));
        }
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            if (args[1].equals("grant")) {
                admin.createAcls(rights).all().get();
            } else {
                admin.deleteAcls(rights.stream().map(AclBinding::toFilter).toList()).all().get();
            }
        } catch (Exception failure) {
            System.err.println("Rights: " + failure);
            System.exit(1);
        }
    }

    private static ResourcePattern resource(String name) {
        String[] parts = name.split(":", 2);
        return switch (parts[0]) {
            case "topic" -> new ResourcePattern(ResourceType.TOPIC, parts[1], PatternType.LITERAL);
            case "group" -> new ResourcePattern(ResourceType.GROUP, parts[1], PatternType.LITERAL);
            case "transactional" ->
                new ResourcePattern(ResourceType.TRANSACTIONAL_ID, parts[1], PatternType.LITERAL);
            case "cluster" -> new ResourcePattern(ResourceType.CLUSTER, "kafka-cluster", PatternType.LITERAL);
            default -> throw new IllegalArgumentException(name);
        };
    }
}

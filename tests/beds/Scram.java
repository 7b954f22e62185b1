// Sets the password of a user, for SCRAM-SHA-256 and for SCRAM-SHA-512, by Apache's own Java client,
// which librdkafka's Rust client cannot.
//
//   java -cp "$KAFKA_CLASSPATH" tests/beds/Scram.java BOOTSTRAP USER PASSWORD
//
// Returns when the brokers' answer is in; a broker acts on it a moment later, and connections that are
// open stay. It changes nothing else, and exits with 1 and a message on failure.

import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;

public class Scram {
    public static void main(String[] args) {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        if (args.length != 3) {
            System.err.println("usage: Scram BOOTSTRAP USER PASSWORD");
            System.exit(64);
        }
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            // One question each: two for one user in one are refused.
            for (ScramMechanism way : List.of(ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)) {
                ScramCredentialInfo info = new ScramCredentialInfo(way, 4096);
                admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(args[1], info, args[2]))).all().get();
            }
        } catch (Exception failure) {
            System.err.println("Scram: " + failure);
            System.exit(1);
        }
    }
}
